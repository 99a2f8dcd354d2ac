"""The step between fetching a page and keeping it: what it says about itself is read."""

import asyncio

import pytest

from app.errors import FetchError
from app.models import Header, NotModified, PageMetadata
from app.worker import extraction
from app.worker.extraction import ALONE_CHARACTERS, IN_THREAD_CHARACTERS, ExtractingFetcher
from tests.fakes import URL, FakeFetcher, a_page, a_timeout
from tests.unit.recorded import Log


async def fetched(**changes: object) -> PageMetadata:
    page = a_page(**changes)  # type: ignore[arg-type]  # a test names what it changes
    result = await ExtractingFetcher(FakeFetcher(page)).fetch(URL, None)
    assert isinstance(result, PageMetadata)
    return result


async def test_a_page_that_has_not_changed_is_passed_on() -> None:
    unchanged = NotModified(elapsed_ms=1.5)
    assert await ExtractingFetcher(FakeFetcher(unchanged)).fetch(URL, None) is unchanged


@pytest.mark.parametrize("content_type", ["text/html", "application/xhtml+xml"])
async def test_an_html_page_has_a_document(content_type: str) -> None:
    page = await fetched(
        page_source="<title>A</title><link rel=canonical href=b>",
        content_type=content_type,
        final_url="http://a.test/x/",
        headers=(Header("x-robots-tag", "noindex"),),
    )
    assert page.document
    assert page.document.title == "A"
    assert page.document.canonical_url == "http://a.test/x/b"
    assert page.document.robots == ("noindex",)


@pytest.mark.parametrize(
    ("source", "content_type"),
    [("<title>A</title>", "text/plain"), ("<title>A</title>", None), (None, "text/html")],
)
async def test_a_body_that_is_not_html_has_no_document(
    source: str | None, content_type: str | None
) -> None:
    page = await fetched(page_source=source, content_type=content_type)
    assert page.document is None


async def test_others_have_their_turn_between_two_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, turns_of_pages = 0, []
    monkeypatch.setattr(extraction, "extract", lambda *_: turns_of_pages.append(turn))
    page = a_page(page_source="x" * (ALONE_CHARACTERS + 1))
    fetcher = ExtractingFetcher(FakeFetcher(page, page, page))
    fetching = asyncio.gather(*(fetcher.fetch(URL, None) for _ in range(3)))
    while not fetching.done():
        await asyncio.sleep(0)
        turn += 1
    assert len(set(turns_of_pages)) == 3


async def test_a_long_page_is_read_while_others_go_on() -> None:
    page = "<title>A</title>" + "<p>" * 1_600_000
    assert len(page) > IN_THREAD_CHARACTERS
    reading = asyncio.create_task(fetched(page_source=page))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    document = reading.result().document
    assert document
    assert document.title == "A"
    assert turns > 10


async def test_an_error_of_the_fetch_is_passed_on() -> None:
    error = a_timeout()
    with pytest.raises(FetchError) as raised:
        await ExtractingFetcher(FakeFetcher(error)).fetch(URL, None)
    assert raised.value is error


async def test_a_page_that_cannot_be_read_is_kept_without_a_document(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(extraction, "extract", broken)
    page = await fetched()
    assert page == a_page()
    assert log.events == ["extraction_failed"]
