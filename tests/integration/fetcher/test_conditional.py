"""Asking a server whether a page has changed: what is sent to which URL, and what 304 means."""

import asyncio

import pytest

from app.errors import FetchError
from app.fetcher.client import HttpFetcher
from app.models import ErrorKind, NotModified, PageMetadata, Validators

from .conftest import MakeFetcher, Serve
from .hostile import HostileServer, Request, redirect, replying, response, routing

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
NOT_MODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nContent-Length: 5\r\n\r\n'


async def unless_it_has_it(request: Request, writer: asyncio.StreamWriter) -> None:
    has_it = request.headers.get("if-none-match") == '"v1"'
    writer.write(NOT_MODIFIED if has_it else response(b"hello", b'ETag: "v1"'))


def sent_to(server: HostileServer) -> list[tuple[str, str | None, str | None]]:
    return [
        (it.target, it.headers.get("if-none-match"), it.headers.get("if-modified-since"))
        for it in server.requests
    ]


@pytest.mark.parametrize(
    ("etag", "date"), [('"v1"', None), ('W/"v1"', None), (None, DATE), ('"\xff"', DATE)]
)
async def test_validators_are_sent_as_they_came(
    fetcher: HttpFetcher, serve: Serve, etag: str | None, date: str | None
) -> None:
    server = await serve(replying(NOT_MODIFIED))
    found = await fetcher.fetch(server.url("/a?b"), Validators(server.url("/a?b"), etag, date))
    assert isinstance(found, NotModified)
    assert found.elapsed_ms > 0
    assert sent_to(server) == [("/a?b", etag, date)]


async def test_a_page_that_has_changed_is_fetched(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(unless_it_has_it)
    page = await fetcher.fetch(server.url(), Validators(server.url(), '"v0"', None))
    assert isinstance(page, PageMetadata)
    assert (page.status_code, page.page_source) == (200, "hello")


async def test_only_the_url_that_gave_the_validators_gets_them_back(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(
        routing(start=redirect("/between"), between=redirect("/end"), end=NOT_MODIFIED)
    )
    validators = Validators(server.url("/end"), '"v1"', DATE)
    assert isinstance(await fetcher.fetch(server.url("/start"), validators), NotModified)
    assert sent_to(server) == [
        ("/start", None, None),
        ("/between", None, None),
        ("/end", '"v1"', DATE),
    ]


async def test_a_page_that_is_somewhere_else_now_is_fetched_without_validators(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(routing(start=redirect("/new"), new=response(b"new")))
    validators = Validators(server.url("/old"), '"v1"', DATE)
    page = await fetcher.fetch(server.url("/start"), validators)
    assert isinstance(page, PageMetadata)
    assert page.page_source == "new"
    assert sent_to(server) == [("/start", None, None), ("/new", None, None)]


async def test_without_conditional_no_validators_are_sent(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    server = await serve(unless_it_has_it)
    fetcher = await make_fetcher(conditional=False)
    page = await fetcher.fetch(server.url(), Validators(server.url(), '"v1"', DATE))
    assert isinstance(page, PageMetadata)
    assert sent_to(server) == [("/", None, None)]


@pytest.mark.parametrize("other", [None, "/other"])
async def test_304_to_a_request_without_validators_is_no_valid_answer(
    fetcher: HttpFetcher, serve: Serve, other: str | None
) -> None:
    server = await serve(replying(NOT_MODIFIED))
    validators = Validators(server.url(other), '"v1"', None) if other else None
    with pytest.raises(FetchError, match="304 to a request without validators") as caught:
        await fetcher.fetch(server.url(), validators)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INVALID_RESPONSE, False)
