"""The HTTP contract, in this process: no broker, no database, no lifespan."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
import yaml
from dirty_equals import IsDatetime, IsPartialDict, IsStr, IsUUID
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app.api.application import create_app
from app.api.middleware import MAX_BODY_BYTES
from app.broker.connection import ConnectionState
from app.errors import (
    PublisherNotReady,
    PublishError,
    PublishFailed,
    PublishFault,
    StoreError,
    StoreUnavailable,
)
from app.models import (
    METADATA_FIELDS,
    Claim,
    Delivery,
    ErrorKind,
    PageError,
    PageRequest,
    PageStatus,
)
from app.runtime.settings import Settings
from app.services import Inventory
from tests.fakes import NOW, URL, FakePages, FakePublisher, a_page, a_request
from tests.unit.recorded import Log

PATIENCE = timedelta(minutes=10)
PROBLEM = "application/problem+json"


class FailingPublisher(FakePublisher):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def publish(self, request: PageRequest) -> None:
        del request
        raise self._error


class FakeConnection:
    """The publisher's connection, as the health check sees it."""

    def __init__(self, state: ConnectionState = ConnectionState.READY) -> None:
        self.state = state

    def why_not_ready(self) -> str | None:
        return None if self.state is ConnectionState.READY else f"publisher is {self.state}"


class FakeDatabase:
    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers

    async def why_not_ready(self) -> str | None:
        return None if self._answers else "database does not answer"


class YieldingPages(FakePages):
    """Lets other tasks run before every operation, as a real database does."""

    async def find(self, url: str, fields: frozenset[str] = METADATA_FIELDS) -> Any:
        await asyncio.sleep(0)
        return await super().find(url, fields)

    async def reserve(self, request: PageRequest) -> bool:
        await asyncio.sleep(0)
        return await super().reserve(request)


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def pages() -> FakePages:
    return YieldingPages()


@pytest.fixture
def app(default_api: FastAPI, publisher: FakePublisher, pages: FakePages) -> FastAPI:
    default_api.state.connection = FakeConnection()
    default_api.state.database = FakeDatabase()
    put_together(default_api, publisher, pages)
    return default_api


def put_together(app: FastAPI, publisher: FakePublisher, pages: FakePages) -> None:
    app.state.inventory = Inventory(publisher=publisher, pages=pages)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


def assert_problem(
    answer: httpx.Response, status: int, *, title: str = ".+", detail: str = ".+"
) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json() == IsPartialDict(
        type=IsStr(regex="urn:page-metadata:problem:[a-z-]+"),
        title=IsStr(regex=title),
        status=status,
        detail=IsStr(regex=f"(?s).*{detail}.*"),
    )
    assert ("retry-after" in answer.headers) == (status == 503)


# --- POST /metadata ---


async def test_a_queued_request_is_answered_202_with_its_location(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    answer = await client.post("/metadata", json={"url": "HTTPS://Example.com?a=b&c=/#d"})
    (request,) = publisher.published
    assert answer.status_code == 202
    assert answer.json() == {
        "status": "QUEUED",
        "url": "https://example.com/?a=b&c=/",
        "request_id": str(request.request_id),
    }
    assert request.url == "https://example.com/?a=b&c=/"
    location = urlsplit(answer.headers["location"])
    assert (location.scheme, location.netloc, location.path) == ("", "", "/metadata")
    assert parse_qs(location.query) == {"url": ["https://example.com/?a=b&c=/"]}


async def test_the_location_of_a_queued_request_can_be_read(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    url = "https://example.com/a b?x=é&y=%26+#z".replace(" ", "%20")
    queued = await client.post("/metadata", json={"url": url})
    read = await client.get(queued.headers["location"])
    assert (read.status_code, read.json()["request_id"]) == (202, queued.json()["request_id"])
    assert len(publisher.published) == 1


async def test_the_location_below_a_prefix_has_the_prefix(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app, root_path="/prefix")
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        queued = await client.post("/prefix/metadata", json={"url": URL})
        read = await client.get(queued.headers["location"])
    assert queued.headers["location"].startswith("/prefix/metadata?url=")
    assert read.json()["request_id"] == queued.json()["request_id"]


async def test_a_request_is_queued_while_the_database_is_away(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages
) -> None:
    pages.failing = lambda: StoreUnavailable("no server")
    answer = await client.post("/metadata", json={"url": URL})
    assert answer.status_code == 202
    assert len(publisher.published) == 1


JSON = {"content-type": "application/json"}
BAD_BODIES = {
    "empty": (b"", JSON, "body"),
    "not JSON": (b"https://example.com/", JSON, "application/json"),
    "not UTF-8": (b'{"url": "\xff"}', JSON, "body"),
    "nested too deeply": (b"[" * 10_000, JSON, "body"),
    "not an object": (b'["https://example.com/"]', JSON, "application/json"),
    "null": (b"null", JSON, "application/json"),
    "no URL": (b"{}", JSON, "url"),
    "a URL that is null": (b'{"url": null}', JSON, "url"),
    "a URL that is a number": (b'{"url": 7}', JSON, "url"),
    "half of a surrogate pair": (b'{"url": "https://example.com/\\ud800"}', JSON, "surrogate"),
    "another content type": (
        json.dumps({"url": URL}).encode(),
        {"content-type": "text/plain"},
        "application/json",
    ),
    "no content type": (json.dumps({"url": URL}).encode(), {}, "application/json"),
    "a form": (
        b"url=https%3A%2F%2Fexample.com%2F",
        {"content-type": "application/x-www-form-urlencoded"},
        "application/json",
    ),
}
BAD_URLS = {
    "empty": "",
    "blank": "  ",
    "no scheme": "example.com",
    "another scheme": "ftp://example.com/",
    "no host": "https:///",
    "credentials": "https://user:secret@example.com/",
    "white space": "https://example.com/a b",
    "a host that is none": "https://exa_mple..com/",
    "a port that is none": "https://example.com:99999/",
    "too long": f"https://example.com/{'x' * 2083}",
}


@pytest.mark.parametrize(("body", "headers", "says"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_malformed_body_is_a_bad_request(
    client: httpx.AsyncClient,
    publisher: FakePublisher,
    body: bytes,
    headers: dict[str, str],
    says: str,
) -> None:
    answer = await client.post("/metadata", content=body, headers=headers)
    assert_problem(answer, 400, detail=says)
    assert answer.json()["type"].rpartition(":")[2] in {"invalid-request", "invalid-url"}
    assert publisher.published == []


async def test_the_answer_to_a_bad_request_names_the_field_and_the_reason(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/metadata", json={})
    assert answer.json() == {
        "type": "urn:page-metadata:problem:invalid-request",
        "title": "The request is not valid",
        "status": 400,
        "detail": "body.url: Field required",
        "errors": [{"field": "body.url", "message": "Field required"}],
    }


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS.keys())
async def test_a_url_that_is_not_accepted_is_a_bad_request(
    client: httpx.AsyncClient, publisher: FakePublisher, url: str
) -> None:
    posted = await client.post("/metadata", json={"url": url})
    read = await client.get("/metadata", params={"url": url})
    for answer in (posted, read):
        assert_problem(answer, 400, title="The URL can't be taken")
        assert "secret" not in answer.text
    assert publisher.published == []


def a_body_of(size: int) -> bytes:
    return json.dumps({"url": URL}).encode().ljust(size)


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("sent", [bytes, in_chunks], ids=["announced", "chunked"])
async def test_a_body_over_16_kib_is_too_large(
    client: httpx.AsyncClient, publisher: FakePublisher, sent: Callable[[bytes], Any]
) -> None:
    body = a_body_of(16 * 1024 + 1)
    answer = await client.post("/metadata", content=sent(body), headers=JSON)
    assert_problem(answer, 413, detail="16384 bytes")
    assert publisher.published == []


@pytest.mark.parametrize("sent", [bytes, in_chunks], ids=["announced", "chunked"])
async def test_a_body_of_16_kib_is_accepted(
    client: httpx.AsyncClient, sent: Callable[[bytes], Any]
) -> None:
    body = a_body_of(16 * 1024)
    answer = await client.post("/metadata", content=sent(body), headers=JSON)
    assert answer.status_code == 202


async def test_a_body_that_is_announced_as_too_large_is_not_read(app: FastAPI) -> None:
    sent = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("it was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"1000000000"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/metadata",
        "query_string": b"",
        "headers": headers,
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 413


async def test_an_endless_body_is_read_no_further_than_the_limit(
    client: httpx.AsyncClient,
) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1024
            yield b" " * 1024

    answer = await client.post("/metadata", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert read <= MAX_BODY_BYTES + 2048


NOT_QUEUED = {
    "the publisher is not ready": (PublisherNotReady(PublishFault.NOT_READY), "not connected"),
    "the queue is full": (PublishFailed(PublishFault.QUEUE_REJECTED), "full"),
    "the connection was lost": (PublishFailed(PublishFault.CONNECTION_LOST), "lost"),
    "the confirm timed out": (PublishFailed(PublishFault.CONFIRM_TIMEOUT), "in time"),
    "the queue is missing": (PublishFailed(PublishFault.UNROUTABLE), "missing"),
}


@pytest.mark.parametrize(("error", "says"), NOT_QUEUED.values(), ids=NOT_QUEUED.keys())
async def test_a_request_that_can_not_be_queued_is_answered_503_with_retry_after(
    app: FastAPI, client: httpx.AsyncClient, pages: FakePages, error: PublishError, says: str
) -> None:
    put_together(app, FailingPublisher(error), pages)
    posted = await client.post("/metadata", json={"url": URL})
    read = await client.get("/metadata", params={"url": URL})
    for answer in (posted, read):
        assert_problem(answer, 503, title="The request could not be queued", detail=says)
        assert int(answer.headers["retry-after"]) > 0
    assert await pages.find(URL) is None


# --- GET /metadata ---


async def a_claim(pages: FakePages, **request: Any) -> Claim:
    delivery = Delivery(a_request(**request))
    claim = await pages.claim(delivery, lease_seconds=120)
    assert isinstance(claim, Claim)
    return claim


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_browser_on_behalf_of_another_site_queues_nothing(
    client: httpx.AsyncClient, pages: FakePages, publisher: FakePublisher, site: str
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    answer = await client.get("/metadata", params={"url": URL}, headers=headers)
    assert_problem(answer, 404, title="The page is not known", detail="POST /metadata")
    assert publisher.published == []
    assert await pages.find(URL) is None


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_a_browser_on_behalf_of_its_user_queues_the_page(
    client: httpx.AsyncClient, publisher: FakePublisher, site: str
) -> None:
    headers = {"Sec-Fetch-Site": site}
    answer = await client.get("/metadata", params={"url": URL}, headers=headers)
    assert answer.status_code == 202
    assert len(publisher.published) == 1


async def test_a_completed_page_has_the_published_shape(
    client: httpx.AsyncClient, pages: FakePages
) -> None:
    page = a_page()
    cookie = replace(page.cookies[0], expires=NOW, max_age=60, http_only=True)
    await pages.complete(await a_claim(pages), replace(page, cookies=(cookie, *page.cookies)))
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "status": "COMPLETED",
        "url": URL,
        "metadata": {
            "final_url": URL,
            "status_code": 200,
            "http_version": "HTTP/1.1",
            "headers": [
                {"name": "content-type", "value": "text/html"},
                {"name": "x-twice", "value": "1"},
                {"name": "x-twice", "value": "2"},
            ],
            "cookies": [
                {
                    "name": "a",
                    "value": "b",
                    "domain": "example.com",
                    "path": "/",
                    "expires": "2026-01-01T00:00:00Z",
                    "max_age": 60,
                    "secure": True,
                    "http_only": True,
                    "same_site": "Lax",
                },
                {
                    "name": "a",
                    "value": "b",
                    "domain": "example.com",
                    "path": "/",
                    "expires": None,
                    "max_age": None,
                    "secure": True,
                    "http_only": False,
                    "same_site": "Lax",
                },
            ],
            "page_source": "<!doctype html>",
            "page_source_truncated": False,
            "content_type": "text/html",
            "charset": "utf-8",
            "body_bytes": 15,
            "body_sha256": "0" * 64,
            "redirects": [
                {"url": "http://example.com/", "status_code": 301, "location": URL},
            ],
            "remote_address": "93.184.215.14",
            "elapsed_ms": 41.7,
            "fetched_at": "2026-01-01T00:00:00Z",
            "document": None,
        },
        "checked_at": IsDatetime(iso_string=True),
        "stale": False,
        "refresh": None,
        "attempts": 1,
        "request_id": IsUUID(),
        "created_at": IsDatetime(iso_string=True),
        "updated_at": IsDatetime(iso_string=True),
    }


async def test_a_page_that_is_not_text_has_no_page_source(
    client: httpx.AsyncClient, pages: FakePages
) -> None:
    page = a_page(page_source=None, charset=None, content_type=None, remote_address=None)
    await pages.complete(await a_claim(pages), page)
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.json()["metadata"] == IsPartialDict(
        page_source=None, charset=None, content_type=None, remote_address=None
    )


@pytest.mark.parametrize("text", ["a\0b", "\u2028</script>", "😀", '"\\'])
async def test_a_page_source_is_returned_unchanged(
    client: httpx.AsyncClient, pages: FakePages, text: str
) -> None:
    await pages.complete(await a_claim(pages), a_page(page_source=text))
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.json()["metadata"]["page_source"] == text


@pytest.mark.parametrize("last", [None, a_page(503)], ids=["no response", "a last response"])
async def test_a_page_that_failed_permanently_is_answered_with_its_error(
    client: httpx.AsyncClient, pages: FakePages, last: Any
) -> None:
    error = PageError(ErrorKind.HTTP_STATUS, "the server answered 503 Service Unavailable")
    await pages.fail(await a_claim(pages, attempt=5), error, last)
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "FAILED_PERMANENT",
        "url": URL,
        "error": {"kind": "http_status", "message": error.message},
        "metadata": last and IsPartialDict(status_code=503),
        "checked_at": IsDatetime(iso_string=True),
        "stale": False,
        "refresh": None,
        "attempts": 5,
        "request_id": IsUUID(),
        "created_at": IsDatetime(iso_string=True),
        "updated_at": IsDatetime(iso_string=True),
    }


# --- As fresh as asked ---

LARGE = "x" * 100_000


async def store(pages: FakePages, *, seconds_ago: float, source: str = "hello") -> None:
    await pages.complete(await a_claim(pages), a_page(page_source=source))
    pages.pass_time(URL, seconds_ago)


@pytest.mark.parametrize("source", ["hello", LARGE], ids=["small", "large"])
async def test_a_post_is_answered_200_by_a_result_that_is_young_enough(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages, source: str
) -> None:
    await store(pages, seconds_ago=100, source=source)
    answer = await client.post("/metadata", json={"url": URL, "max_age": 120})
    assert (answer.status_code, answer.json()["stale"]) == (200, False)
    assert answer.json()["metadata"]["page_source"] == source
    assert publisher.published == []


@pytest.mark.parametrize(
    "body", [{"max_age": 80}, {"max_age": 80.0}, {"max_age": 0}, {"max_age": None}, {}], ids=str
)
async def test_a_post_is_queued_if_the_result_is_older(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages, body: dict[str, Any]
) -> None:
    await store(pages, seconds_ago=100)
    answer = await client.post("/metadata", json={"url": URL, **body})
    assert answer.status_code == 202
    assert len(publisher.published) == 1


@pytest.mark.parametrize("source", ["hello", LARGE], ids=["small", "large"])
async def test_an_older_result_is_answered_as_stale_and_one_refresh_is_queued(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages, source: str
) -> None:
    await store(pages, seconds_ago=100, source=source)
    call = client.get("/metadata", params={"url": URL, "max_age": 80})
    again = client.get("/metadata", params={"url": URL, "max_age": 80})
    for answer in (await call, await again):
        assert (answer.status_code, answer.json()["stale"]) == (200, True)
        assert answer.json()["metadata"]["page_source"] == source
        assert answer.json()["refresh"] == {
            "status": "QUEUED",
            "request_id": str(publisher.published[0].request_id),
            "requested_at": IsDatetime(iso_string=True),
            "attempts": 0,
            "error": None,
        }
    assert len(publisher.published) == 1


@pytest.mark.parametrize("query", [{"max_age": 120}, {}], ids=str)
async def test_a_result_that_is_young_enough_is_not_stale(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages, query: dict[str, Any]
) -> None:
    await store(pages, seconds_ago=100)
    answer = await client.get("/metadata", params={"url": URL, **query})
    assert (answer.status_code, answer.json()["stale"]) == (200, False)
    assert (answer.json()["refresh"], publisher.published) == (None, [])


async def test_a_read_with_queue_false_queues_nothing(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages
) -> None:
    query = {"url": URL, "queue": "false", "max_age": "80"}
    answer = await client.get("/metadata", params=query)
    assert_problem(answer, 404, title="The page is not known", detail="POST /metadata")
    assert answer.json()["type"] == "urn:page-metadata:problem:unknown-page"
    await store(pages, seconds_ago=100)
    answer = await client.get("/metadata", params=query)
    assert (answer.status_code, answer.json()["stale"]) == (200, True)
    assert publisher.published == []


BAD_AGES = {
    "negative": (-1, "greater than or equal to 0"),
    "a fraction": (1.5, "whole number|integer"),
    "no number": ("soon", "send a whole number"),
    "empty": ("", "send a whole number"),
    "too large": (2**31, "less than or equal to 2147483647"),
}


@pytest.mark.parametrize(("value", "says"), BAD_AGES.values(), ids=BAD_AGES.keys())
async def test_a_max_age_that_is_not_accepted_is_a_bad_request(
    client: httpx.AsyncClient, publisher: FakePublisher, value: Any, says: str
) -> None:
    posted = await client.post("/metadata", json={"url": URL, "max_age": value})
    read = await client.get("/metadata", params={"url": URL, "max_age": value})
    for answer, place in ((posted, "body"), (read, "query")):
        assert_problem(answer, 400, detail=f"max_age: .*({says})")
        assert answer.json()["errors"][0]["field"] == f"{place}.max_age"
    assert publisher.published == []


@pytest.mark.parametrize("value", ["3600", True])
async def test_a_max_age_in_a_body_is_a_number(client: httpx.AsyncClient, value: Any) -> None:
    answer = await client.post("/metadata", json={"url": URL, "max_age": value})
    assert_problem(answer, 400, detail="max_age: .*send a whole number")


async def test_a_queue_that_is_neither_true_nor_false_is_a_bad_request(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    answer = await client.get("/metadata", params={"url": URL, "queue": "perhaps"})
    assert_problem(answer, 400, detail="query.queue: .*send true or false")
    assert publisher.published == []


# --- GET /metadata/requests/{request_id} ---


async def test_a_request_is_answered_with_what_became_of_it(
    client: httpx.AsyncClient, pages: FakePages
) -> None:
    claim = await a_claim(pages)
    await pages.fail(claim, PageError(ErrorKind.DNS, "no such host"))
    answer = await client.get(f"/metadata/requests/{claim.request_id}")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "status": "FAILED_PERMANENT",
            "url": URL,
            "request_id": str(claim.request_id),
            "attempts": 1,
            "error": {"kind": "dns", "message": "no such host"},
            "answered_by": str(claim.request_id),
        },
    )


async def test_a_request_that_nobody_made_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metadata/requests/6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11")
    assert_problem(answer, 404, title="The request is not known", detail="GET /metadata")
    assert answer.json()["type"] == "urn:page-metadata:problem:unknown-request"


async def test_a_request_id_that_is_none_is_a_bad_request(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metadata/requests/seven")
    assert_problem(answer, 400, detail="request_id: .*send the request_id that POST")


# --- Pages that have not ended ---


@pytest.mark.parametrize(
    "status", [PageStatus.QUEUED, PageStatus.IN_PROGRESS, PageStatus.FAILED_RETRYABLE]
)
async def test_a_page_that_has_not_ended_is_answered_202_with_retry_after(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages, status: PageStatus
) -> None:
    error = PageError(ErrorKind.TIMEOUT, "no answer in time")
    if status is PageStatus.QUEUED:
        await pages.note_queued(a_request(at=datetime.now(UTC)))
    else:
        claim = await a_claim(pages)
        if status is PageStatus.FAILED_RETRYABLE:
            await pages.note_retry(claim, error)
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.status_code == 202
    assert int(answer.headers["retry-after"]) > 0
    failed = {"kind": "timeout", "message": "no answer in time"}
    assert answer.json() == {
        "status": status,
        "url": URL,
        "error": failed if status is PageStatus.FAILED_RETRYABLE else None,
        "attempts": 0 if status is PageStatus.QUEUED else 1,
        "request_id": IsUUID(),
        "created_at": IsDatetime(iso_string=True),
        "updated_at": IsDatetime(iso_string=True),
    }
    assert publisher.published == []


async def test_an_unknown_page_is_queued(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    answer = await client.get("/metadata", params={"url": "HTTPS://EXAMPLE.com"})
    (request,) = publisher.published
    assert answer.status_code == 202
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json() == IsPartialDict(
        status="QUEUED", url=URL, request_id=str(request.request_id), attempts=0
    )


async def test_forty_readers_of_an_unknown_page_at_once_queue_it_once(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    spellings = [URL, "https://EXAMPLE.com", "https://example.com:443/", "https://example.com/#a"]
    answers = await asyncio.gather(
        *(client.get("/metadata", params={"url": url}) for url in spellings * 10)
    )
    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {
        (202, "QUEUED")
    }
    assert len(publisher.published) == 1


async def test_the_record_of_an_unknown_page_is_taken_back_if_it_can_not_be_queued(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages
) -> None:
    publisher.refusing = True
    assert (await client.get("/metadata", params={"url": URL})).status_code == 503
    assert await pages.find(URL) is None
    publisher.refusing = False
    assert (await client.get("/metadata", params={"url": URL})).status_code == 202


async def test_a_read_is_answered_503_while_the_database_is_away(
    client: httpx.AsyncClient, publisher: FakePublisher, pages: FakePages
) -> None:
    pages.failing = lambda: StoreUnavailable("NetworkTimeout: localhost:27017")
    answer = await client.get("/metadata", params={"url": URL})
    assert_problem(answer, 503, title="The database is not available")
    assert publisher.published == []


async def test_a_read_without_a_url_is_a_bad_request(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metadata")
    assert_problem(answer, 400, detail="query.url: Field required")
    assert answer.json()["errors"] == [{"field": "query.url", "message": "Field required"}]


async def test_a_url_with_a_query_string_can_be_read_percent_encoded(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    url = "https://example.com/?a=b&c=d"
    await client.get(f"/metadata?url={quote(url, safe='')}")
    assert [request.url for request in publisher.published] == [url]


# --- What nobody foresaw ---


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("a bug"), StoreError("of no known kind")], ids=["any", "ours"]
)
async def test_an_unforeseen_error_is_logged_with_its_traceback_and_not_shown_to_the_caller(
    client: httpx.AsyncClient, pages: FakePages, log: Log, error: Exception
) -> None:
    pages.failing = lambda: error
    answer = await client.get("/metadata", params={"url": URL})
    assert_problem(answer, 500, title="Something went wrong")
    assert str(error) not in answer.text
    fields = log.one("unhandled_error")
    assert fields == IsPartialDict(level="ERROR", method="GET", path="/metadata")
    assert fields["exception"].value is error
    assert fields["exception"].traceback is not None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/metadata/", 404), ("PUT", "/metadata", 405)],
)
async def test_an_unknown_path_is_answered_with_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    assert_problem(await client.request(method, path), status)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/metadata", "DELETE, GET, HEAD, POST"), ("/metadata/requests/some-id", "GET, HEAD")],
)
async def test_the_answer_to_a_wrong_method_names_the_allowed_ones(
    client: httpx.AsyncClient, path: str, allowed: str
) -> None:
    answer = await client.put(path)
    assert answer.headers["allow"] == allowed


def paths_to_get() -> list[str]:
    routes = iter_route_contexts(create_app(Settings(_env_file=None)).routes)
    return sorted({str(it.path) for it in routes if "GET" in (it.methods or {"GET"})})


@pytest.mark.parametrize("path", paths_to_get())
async def test_head_is_answered_as_get_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    filled = path.replace("{request_id}", str(a_request().request_id))
    got = await client.get(filled, params={"url": URL})
    head = await client.head(filled, params={"url": URL})
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers.get("content-type") == got.headers.get("content-type")


# --- Deleting ---


async def test_a_deleted_page_is_unknown(client: httpx.AsyncClient) -> None:
    await client.post("/metadata", json={"url": URL})
    answer = await client.delete("/metadata", params={"url": URL})
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await client.get("/metadata", params={"url": URL, "queue": "false"})
    assert answer.status_code == 404


async def test_a_page_is_deleted_under_any_of_its_spellings(client: httpx.AsyncClient) -> None:
    await client.post("/metadata", json={"url": "https://example.com/a"})
    await client.delete("/metadata", params={"url": "HTTPS://EXAMPLE.com:443/b/../a#c"})
    answer = await client.get(
        "/metadata", params={"url": "https://example.com/a", "queue": "false"}
    )
    assert answer.status_code == 404


async def test_deleting_a_page_that_is_not_known_changes_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/metadata", params={"url": URL})
    assert answer.status_code == 204


@pytest.mark.parametrize("query", ["", "?url=", "?url=ftp://example.com/"])
async def test_a_page_without_a_valid_url_is_not_deleted(
    client: httpx.AsyncClient, query: str
) -> None:
    answer = await client.delete(f"/metadata{query}")
    assert answer.status_code == 400


async def test_nothing_is_deleted_while_the_database_is_away(
    pages: FakePages, client: httpx.AsyncClient
) -> None:
    pages.failing = lambda: StoreUnavailable("away")
    answer = await client.delete("/metadata", params={"url": URL})
    assert answer.status_code == 503


# --- Health ---


async def test_a_process_that_answers_is_alive(app: FastAPI, client: httpx.AsyncClient) -> None:
    app.state.connection = FakeConnection(ConnectionState.RECONNECTING)
    app.state.database = FakeDatabase(answers=False)
    answer = await client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_the_api_is_ready_if_broker_and_database_are(
    client: httpx.AsyncClient, log: Log
) -> None:
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert "readiness_failed" not in log.events


@pytest.mark.parametrize("state", [it for it in ConnectionState if it != "READY"])
async def test_the_api_is_not_ready_without_a_publisher_and_says_why(
    app: FastAPI, client: httpx.AsyncClient, log: Log, state: ConnectionState
) -> None:
    app.state.connection = FakeConnection(state)
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not_ready", "reason": f"publisher is {state}"}
    assert log.one("readiness_failed") == IsPartialDict(
        level="WARNING", reason=f"publisher is {state}"
    )


async def test_the_api_is_not_ready_without_a_database_and_says_why(
    app: FastAPI, client: httpx.AsyncClient, log: Log
) -> None:
    app.state.database = FakeDatabase(answers=False)
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not_ready", "reason": "database does not answer"}
    assert log.one("readiness_failed")["reason"] == "database does not answer"


async def test_the_api_is_not_ready_before_it_has_connected(settings: Settings) -> None:
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.get("/health/ready")
        posted = await client.post("/metadata", json={"url": URL})
    assert answer.json()["reason"] == "publisher is DISCONNECTED"
    assert_problem(posted, 503, detail="not connected")


# --- Documentation ---


class Links(HTMLParser):
    """Where a page gets its scripts, styles and pictures from."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "asyncapi-viewer"}:
            self.found += [value for name, value in attrs if name in {"src", "href"} and value]


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/asyncapi"])
async def test_a_page_of_the_docs_loads_everything_from_this_server(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    links = Links(answer.text).found
    assert links
    for link in links:
        assert urlsplit(link).netloc == ""
        file = await client.get(link)
        assert (file.status_code, bool(file.content)) == (200, True)


async def test_the_openapi_document_describes_the_calls(openapi: Any) -> None:
    assert openapi["openapi"].startswith("3.1")
    assert set(openapi["paths"]) >= {"/metadata", "/health/live", "/health/ready"}
    responses = {
        method: set(call["responses"]) for method, call in openapi["paths"]["/metadata"].items()
    }
    assert responses["post"] >= {"202", "400", "413", "503"}
    assert responses["get"] >= {"200", "202", "400", "503"}


async def test_the_openapi_document_does_not_list_422(openapi: Any) -> None:
    for call in openapi["paths"]["/metadata"].values():
        assert "422" not in call["responses"]


async def test_the_asyncapi_document_is_served_as_yaml(client: httpx.AsyncClient) -> None:
    answer = await client.get("/asyncapi.yaml")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/yaml")
    document = yaml.safe_load(answer.text)
    assert document["asyncapi"] == "3.0.0"
    addresses = [it["address"] for it in document["channels"].values()]
    assert addresses == ["metadata.requests", "page.deleted"]


@pytest.mark.parametrize("path", ["/asyncapi", "/asyncapi/try"])
async def test_nothing_can_be_published_through_the_docs(
    client: httpx.AsyncClient, path: str
) -> None:
    assert (await client.post(path, json={})).status_code in {404, 405}
