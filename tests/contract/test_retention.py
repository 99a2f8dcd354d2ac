"""The database removes results that nobody has asked for since some days, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from dirty_equals import IsNow

from app.models import Delivery, PageRequest, PageStatus
from app.store.indexes import RETENTION_INDEX
from app.store.mongo import CLIENTS, Database
from app.store.pages import PageRepository
from dev.servers import MongoDB
from tests.contract.repositories import (
    ERROR,
    PATIENCE,
    claimed,
    found,
    opened,
    opened_empty,
    status_of,
)
from tests.fakes import URL, a_page, a_request

DAY = 86_400
DRIVERS = pytest.mark.parametrize("driver", CLIENTS.values(), ids=CLIENTS)


@pytest.fixture(params=list(CLIENTS))
async def database(request: pytest.FixtureRequest, mongodb: MongoDB) -> AsyncIterator[Database]:
    """A database that keeps results for three days."""
    driver = CLIENTS[request.param]
    async with opened_empty(mongodb, "contract-retention", driver, retention_days=3) as database:
        yield database


@pytest.fixture
def pages(database: Database) -> PageRepository:
    return PageRepository(database, patience_seconds=PATIENCE, notes_reads=True)


async def complete(pages: PageRepository, url: str = URL) -> PageRequest:
    request = a_request(url)
    await pages.complete(await claimed(pages, Delivery(request)), a_page())
    return request


async def pass_days(database: Database, days: float, url: str = URL) -> None:
    """Make it so many days since a page was asked for."""
    earlier = {"$subtract": ["$asked_at", round(days * DAY * 1000)]}
    await database.pages.update_one({"url": url}, [{"$set": {"asked_at": earlier}}])


async def days_since_asked(database: Database, url: str = URL) -> float:
    age = {"$divide": [{"$subtract": ["$$NOW", "$asked_at"]}, DAY * 1000]}
    document = await database.pages.find_one({"url": url}, {"age": age})
    days: float = document["age"]
    return days


async def eventually(read: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    async with asyncio.timeout(10):
        while await read() != wanted:  # noqa: ASYNC110 (what is waited for is in the database)
            await asyncio.sleep(0.05)


async def left(database: Database) -> list[str]:
    cursor = database.pages.find({}, {"url": True}).sort("url")
    return [document["url"] async for document in cursor]


async def test_a_result_that_nobody_has_asked_for_is_removed_and_a_younger_one_is_not(
    pages: PageRepository, database: Database
) -> None:
    old, failed, young = (f"{URL}{name}" for name in ("old", "failed", "young"))
    await complete(pages, old)
    await pages.fail(await claimed(pages, Delivery(a_request(failed))), ERROR)
    await complete(pages, young)
    for url, days in ((old, 4.1), (failed, 4.1), (young, 3.9)):
        await pass_days(database, days, url)
    await eventually(lambda: left(database), [young])


async def test_what_has_not_ended_or_is_deleted_or_undated_is_not_removed(
    pages: PageRepository, database: Database
) -> None:
    queued, claim, retried, deleted, undated, old = (f"{URL}{number}" for number in range(6))
    await pages.note_queued(a_request(queued))
    await claimed(pages, Delivery(a_request(claim)))
    await pages.note_retry(await claimed(pages, Delivery(a_request(retried))), ERROR)
    for url in (deleted, undated, old):
        await complete(pages, url)
    await pages.delete(deleted, tells=False)
    await database.pages.update_one({"url": undated}, {"$unset": {"asked_at": True}})
    for url in (queued, claim, retried, deleted, old):
        await pass_days(database, 100, url)
    await eventually(lambda: left(database), [queued, claim, retried, deleted, undated])


async def test_a_refresh_whose_page_is_removed_before_its_fetch_is_made_all_the_same(
    pages: PageRepository, database: Database
) -> None:
    """Nobody has fetched anything for days; the message of the refresh has waited all the time."""
    await complete(pages)
    refresh = a_request()
    await pages.note_queued(refresh)
    await pass_days(database, 5)
    await eventually(lambda: left(database), [])
    claim = await claimed(pages, Delivery(refresh))
    assert (claim.request_id, claim.refreshes, claim.attempt) == (refresh.request_id, False, 1)
    assert await pages.complete(claim, a_page()) is PageStatus.COMPLETED
    state = await pages.find_request(refresh.request_id)
    assert state is not None
    assert (state.status, state.answered_by) == (PageStatus.COMPLETED, refresh.request_id)


async def test_a_retry_whose_page_is_removed_before_it_comes_is_made_all_the_same(
    pages: PageRepository, database: Database
) -> None:
    await complete(pages)
    refresh = a_request()
    await pages.note_retry(await claimed(pages, Delivery(refresh)), ERROR)
    await pass_days(database, 5)
    await eventually(lambda: left(database), [])
    retry = PageRequest(URL, refresh.request_id, refresh.requested_at, attempt=2)
    claim = await claimed(pages, Delivery(retry))
    assert claim.attempt == 2
    assert await pages.complete(claim, a_page()) is PageStatus.COMPLETED


async def test_a_result_is_not_removed_while_it_is_fetched_again(
    pages: PageRepository, database: Database
) -> None:
    """The request was accepted while the database was away: no note of it has moved anything."""
    await complete(pages)
    other = f"{URL}other"
    await complete(pages, other)
    await pass_days(database, 4, other)
    await pass_days(database, 3.999)
    claim = await claimed(pages, Delivery(a_request()))
    await pass_days(database, 1)  # the fetch takes a day
    await eventually(lambda: left(database), [URL])
    assert await pages.complete(claim, a_page()) is PageStatus.COMPLETED


async def ask_by_post(pages: PageRepository) -> None:
    await pages.note_queued(a_request())


async def ask_by_fetch(pages: PageRepository) -> None:
    await claimed(pages, Delivery(a_request()))


async def ask_for_a_refresh(pages: PageRepository) -> None:
    assert await pages.reserve_refresh(a_request(), await found(pages))


ASKED = {"POST": ask_by_post, "a fetch": ask_by_fetch, "a refresh": ask_for_a_refresh}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
async def test_whoever_asks_for_a_page_keeps_it(
    pages: PageRepository, database: Database, ask: Callable[[PageRepository], Awaitable[None]]
) -> None:
    await complete(pages)
    await pass_days(database, 0.9)  # so that reading it is not noted
    await ask(pages)
    assert 0 <= await days_since_asked(database) < 0.001


async def test_a_page_that_failed_and_is_asked_for_again_is_kept(
    pages: PageRepository, database: Database
) -> None:
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    await pass_days(database, 0.9)
    assert await pages.reserve_again(a_request(), await found(pages))
    assert 0 <= await days_since_asked(database) < 0.001


async def test_a_new_page_says_when_it_was_asked_for(
    pages: PageRepository, database: Database
) -> None:
    await pages.reserve(a_request())
    document = await database.pages.find_one({"url": URL})
    assert document["asked_at"] == IsNow(delta=5, tz="UTC")
    assert document["asked_at"] == document["created_at"]


async def test_reading_a_page_keeps_it_with_one_write_a_day(
    pages: PageRepository, database: Database
) -> None:
    await complete(pages)
    await pass_days(database, 0.9)
    await found(pages)
    await pages.find_with_source(URL)
    await asyncio.sleep(0.2)  # nothing is to come
    assert await days_since_asked(database) > 0.89
    before = await found(pages)
    for read in (pages.find, pages.find_with_source):
        await pass_days(database, 1.1)
        assert await read(URL)
        await eventually(lambda: _is_today(database), wanted=True)
    after = await found(pages)
    assert (after.updated_at, after.revision) == (before.updated_at, before.revision)


async def _is_today(database: Database) -> bool:
    return await days_since_asked(database) < 0.001


async def test_an_undated_page_that_is_read_is_dated(
    pages: PageRepository, database: Database
) -> None:
    await complete(pages)
    await database.pages.update_one({"url": URL}, {"$unset": {"asked_at": True}})
    await found(pages)
    await eventually(
        lambda: database.pages.count_documents({"asked_at": {"$type": "date"}}), wanted=1
    )


async def test_without_retention_reading_writes_nothing(database: Database) -> None:
    pages = PageRepository(database, patience_seconds=PATIENCE)
    await complete(pages)
    await pass_days(database, 2)
    await found(pages)
    await asyncio.sleep(0.2)  # nothing is to come
    assert await days_since_asked(database) > 1.9
    assert await status_of(pages) is PageStatus.COMPLETED


async def index_of(database: Database) -> int | None:
    information = await database.pages.index_information()
    seconds: int | None = information.get(RETENTION_INDEX, {}).get("expireAfterSeconds")
    return seconds


@DRIVERS
async def test_another_number_of_days_changes_the_index_and_zero_drops_it(
    mongodb: MongoDB, unique_name: str, driver: Any
) -> None:
    seconds = []
    for days in (0, 30, 7, 7, 0, 0):
        async with opened(mongodb, unique_name, driver, retention_days=days) as database:
            seconds.append(await index_of(database))
    assert seconds == [None, 31 * DAY, 8 * DAY, 8 * DAY, None, None]


@DRIVERS
@pytest.mark.parametrize("days", [7, 0])
async def test_processes_may_start_at_once_with_another_number_of_days(
    mongodb: MongoDB, unique_name: str, driver: Any, days: int
) -> None:
    async with opened(mongodb, unique_name, driver, retention_days=30) as database:
        await database.pages.insert_many({"url": f"{URL}{number}"} for number in range(2000))

    async def start() -> int | None:
        async with opened(
            mongodb, unique_name, driver, retention_days=days, attempts=10
        ) as database:
            return await index_of(database)

    assert set(await asyncio.gather(*(start() for _ in range(6)))) <= {8 * DAY, None}
    assert await start() == (8 * DAY if days else None)
