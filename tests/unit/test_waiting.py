"""Many callers that wait, and one query for all of them."""

import asyncio
from collections.abc import Callable, Collection
from itertools import count
from uuid import uuid4

import pytest

from app.errors import StoreUnavailable
from app.models import Awaited
from app.waiting import PAUSE_SECONDS, WaitEnd, Waiters

PAGE = Awaited("https://example.com/")


class Database:
    """Says of each wait in `over` that it is over, after `delay` seconds."""

    def __init__(self) -> None:
        self.over: set[Awaited] = set()
        self.asked: list[set[Awaited]] = []
        self.delay = 0.0
        self.failing: Exception | None = None

    async def answered(self, waits: Collection[Awaited]) -> set[Awaited]:
        self.asked.append(set(waits))
        await asyncio.sleep(self.delay)
        if self.failing:
            raise self.failing
        return self.over & set(waits)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def waiters(database: Database) -> Waiters:
    return Waiters(database.answered, most=1000)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what it waits for is not ours to signal)
            await asyncio.sleep(0.005)


async def test_a_wait_is_over_when_the_database_says_so(
    waiters: Waiters, database: Database
) -> None:
    waiting = asyncio.create_task(waiters.wait(PAGE, 60))
    await until(lambda: len(database.asked) == 2)
    assert not waiting.done()
    database.over = {PAGE}
    assert await asyncio.wait_for(waiting, 1)


async def test_a_wait_lasts_no_longer_than_asked_for(waiters: Waiters) -> None:
    assert await waiters.wait(PAGE, 0.01) is WaitEnd.TIMED_OUT


async def test_all_waits_of_one_moment_cost_one_query(waiters: Waiters, database: Database) -> None:
    waits = [Awaited(f"https://example.com/{n % 300}", uuid4()) for n in range(999)]
    tasks = [asyncio.create_task(waiters.wait(it, 60)) for it in [*waits, PAGE]]
    await until(lambda: database.asked)
    assert database.asked == [{*waits, PAGE}]
    database.over = {*waits, PAGE}
    assert all(await asyncio.gather(*tasks))
    assert len(database.asked) == 2


async def test_the_same_wait_of_many_callers_is_asked_for_once(
    waiters: Waiters, database: Database
) -> None:
    tasks = [asyncio.create_task(waiters.wait(PAGE, 60)) for _ in range(10)]
    await until(lambda: database.asked)
    database.over = {PAGE}
    assert all(await asyncio.gather(*tasks))


async def test_nothing_is_asked_while_nobody_waits(waiters: Waiters, database: Database) -> None:
    await waiters.wait(PAGE, 0.01)
    await asyncio.sleep(2 * PAUSE_SECONDS)  # a query that was due may still be made
    asked = len(database.asked)
    await asyncio.sleep(3 * PAUSE_SECONDS)  # the time in which queries are counted
    assert len(database.asked) == asked
    database.over = {PAGE}
    assert await waiters.wait(PAGE, 5) is WaitEnd.OVER


async def test_the_slower_the_database_the_more_rarely_it_is_asked(
    waiters: Waiters, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count(step=0.1)  # each look at the clock is 0.1 s after the last one
    monkeypatch.setattr("app.waiting.monotonic", lambda: next(seconds))
    await waiters.wait(PAGE, 0.05)
    assert slept[0] == pytest.approx(0.4)


async def test_only_so_many_may_wait(database: Database) -> None:
    waiters = Waiters(database.answered, most=2)
    first, second = (asyncio.create_task(waiters.wait(PAGE, 60)) for _ in range(2))
    await asyncio.sleep(0)
    assert not waiters.has_room
    assert await asyncio.wait_for(waiters.wait(PAGE, 60), 1) is WaitEnd.REFUSED
    first.cancel()
    await asyncio.wait([first])
    assert waiters.has_room
    database.over = {PAGE}
    assert await asyncio.wait_for(waiters.wait(PAGE, 60), 1) is WaitEnd.OVER
    assert await second is WaitEnd.OVER


async def test_closing_ends_every_wait_at_once(waiters: Waiters) -> None:
    waiting = asyncio.create_task(waiters.wait(PAGE, 60))
    await asyncio.sleep(0)
    waiters.close()
    assert await asyncio.wait_for(waiting, 1) is WaitEnd.REFUSED
    assert await asyncio.wait_for(waiters.wait(PAGE, 60), 1) is WaitEnd.REFUSED


async def test_a_database_that_is_away_is_asked_again(waiters: Waiters, database: Database) -> None:
    database.failing = StoreUnavailable("no server")
    waiting = asyncio.create_task(waiters.wait(PAGE, 60))
    await until(lambda: database.asked)
    database.failing, database.over = None, {PAGE}
    assert await asyncio.wait_for(waiting, 2) is WaitEnd.OVER
