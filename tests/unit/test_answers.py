"""Answers about large pages: made piece by piece, and only as many at once as there is room for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import httpx
import pytest
from dirty_equals import IsPartialDict
from fastapi import FastAPI

from app.api.answers import LargePages, Room
from app.api.problems import Refusal
from app.models import (
    MAX_INLINE_SOURCE_BYTES,
    Claim,
    Delivery,
    PageError,
    PageMetadata,
    PageRecord,
    PageStatus,
)
from app.services import Inventory
from tests.fakes import URL, FakePages, FakePublisher, a_page, a_request

LARGE = MAX_INLINE_SOURCE_BYTES + 1


@pytest.fixture
def pages() -> FakePages:
    return FakePages()


@pytest.fixture
def app(default_api: FastAPI, pages: FakePages) -> FastAPI:
    default_api.state.inventory = Inventory(publisher=FakePublisher(), pages=pages)
    return default_api


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


async def a_claim(pages: FakePages) -> Claim:
    claim = await pages.claim(Delivery(a_request()), lease_seconds=120)
    assert isinstance(claim, Claim)
    return claim


async def store(pages: FakePages, source: str) -> None:
    await pages.complete(await a_claim(pages), a_page(page_source=source))


# --- Large pages ---

TEXTS = {
    "ASCII": "x" * LARGE,
    "two bytes each": "é" * LARGE,
    "three bytes each": "€" * LARGE,
    "four bytes each": "😀" * LARGE,
    "cut within characters": "a" + "😀é€" * LARGE,
    "escaped in JSON": '\0\x1b"\\\n\u2028</script>' * LARGE,
}


@pytest.mark.parametrize("source", TEXTS.values(), ids=TEXTS.keys())
async def test_a_large_page_is_answered_as_a_small_one_is(
    client: httpx.AsyncClient, pages: FakePages, source: str
) -> None:
    await store(pages, source)
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    page = answer.json()
    assert page["metadata"]["page_source"] == source
    assert page == IsPartialDict(status="COMPLETED", url=URL, attempts=1)
    assert page["metadata"] == IsPartialDict(final_url=URL, page_source_truncated=False)


async def test_the_large_last_response_of_a_failed_page_is_answered_too(
    client: httpx.AsyncClient, pages: FakePages
) -> None:
    error = PageError("http_status", "the server answered 503")
    await pages.fail(await a_claim(pages), error, a_page(503, page_source="x" * LARGE))
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.json()["status"] == "FAILED_PERMANENT"
    assert len(answer.json()["metadata"]["page_source"]) == LARGE


@pytest.fixture
async def changed(
    pages: FakePages, monkeypatch: pytest.MonkeyPatch
) -> Callable[[PageMetadata | None], Awaitable[None]]:
    """Store a large page, and have it changed between the look at its size and its reading."""

    async def changed(metadata: PageMetadata | None) -> None:
        await store(pages, "x" * LARGE)
        record = await pages.find(URL)
        after = replace(record, metadata=metadata) if record and metadata else None

        async def read_with_source(*_arguments: object) -> PageRecord | None:
            return after

        monkeypatch.setattr(Inventory, "read_with_source", read_with_source)

    return changed


async def test_a_large_page_that_is_deleted_meanwhile_is_to_be_asked_for_again(
    client: httpx.AsyncClient, changed: Callable[[PageMetadata | None], Awaitable[None]]
) -> None:
    await changed(None)
    answer = await client.get("/metadata", params={"url": URL})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_large_page_that_is_not_text_any_more_is_answered_without_a_source(
    client: httpx.AsyncClient, changed: Callable[[PageMetadata | None], Awaitable[None]]
) -> None:
    await changed(a_page(page_source=None))
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.json()["metadata"]["page_source"] is None


async def test_a_large_page_without_room_is_answered_503(
    app: FastAPI, client: httpx.AsyncClient, pages: FakePages
) -> None:
    await store(pages, "x" * LARGE)
    room = Room(LARGE, wait_seconds=0.01)
    app.state.large_pages = LargePages(reading=room, sending=Room(LARGE))
    async with room.taken(LARGE):
        answer = await client.get("/metadata", params={"url": URL})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"] == "urn:page-metadata:problem:large-pages-busy"
    assert (await client.get("/metadata", params={"url": URL})).status_code == 200


async def test_a_small_page_needs_no_room(
    app: FastAPI, client: httpx.AsyncClient, pages: FakePages
) -> None:
    await store(pages, "x" * MAX_INLINE_SOURCE_BYTES)
    app.state.large_pages = LargePages(Room(0), Room(0))
    answer = await client.get("/metadata", params={"url": URL})
    assert answer.json()["status"] == PageStatus.COMPLETED


# --- Room ---


async def held(room: Room, size: int, until: asyncio.Event) -> None:
    async with room.taken(size):
        await until.wait()


async def test_who_finds_no_room_waits_until_enough_is_free() -> None:
    room, done = Room(10), asyncio.Event()
    first = asyncio.create_task(held(room, 8, done))
    await asyncio.sleep(0)
    second = asyncio.create_task(held(room, 5, done))
    await asyncio.sleep(0.01)
    async with room.taken(2):  # a small need overtakes the one that waits
        done.set()
        await asyncio.wait_for(asyncio.gather(first, second), 1)


async def test_who_waits_too_long_for_room_is_refused() -> None:
    room = Room(10, wait_seconds=0.01)
    async with room.taken(10):
        with pytest.raises(Refusal):
            await held(room, 1, asyncio.Event())
    async with room.taken(10):
        pass


async def test_more_requests_than_may_wait_are_refused() -> None:
    room = Room(10, wait_seconds=60, max_waiting=1)
    async with room.taken(10):
        waiting = asyncio.create_task(held(room, 1, asyncio.Event()))
        await asyncio.sleep(0)
        with pytest.raises(Refusal):
            await held(room, 1, asyncio.Event())
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_room_is_given_back_by_who_fails_or_is_cancelled() -> None:
    room = Room(10, wait_seconds=0.01)
    with pytest.raises(ZeroDivisionError):
        async with room.taken(10):
            raise ZeroDivisionError
    cancelled = asyncio.create_task(held(room, 10, asyncio.Event()))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    async with room.taken(10):
        pass


async def test_a_page_larger_than_the_room_has_it_for_itself() -> None:
    room = Room(10, wait_seconds=0.01)
    async with room.taken(1000):
        with pytest.raises(Refusal):
            await held(room, 1, asyncio.Event())
