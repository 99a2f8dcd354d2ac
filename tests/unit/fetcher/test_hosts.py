import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from app.errors import HostBusy, TooManyFetches
from app.fetcher.hosts import HostPace, HostTurns

HOST = "a.test"


async def test_a_host_gets_as_many_turns_as_its_limit_and_no_more() -> None:
    turns = HostTurns(2, patience_seconds=0.01)
    async with turns.turn(HOST), turns.turn(HOST):
        with pytest.raises(HostBusy, match=r"all 2 connections to a\.test are in use"):
            await turns.turn(HOST).__aenter__()


async def test_a_turn_that_was_given_back_may_be_taken_again() -> None:
    turns = HostTurns(1, patience_seconds=0.01)
    for _ in range(3):
        async with turns.turn(HOST):
            pass
    with pytest.raises(ZeroDivisionError):
        async with turns.turn(HOST):
            raise ZeroDivisionError
    async with turns.turn(HOST):
        pass


async def test_a_page_waits_for_the_turn_of_a_host_that_answers_quickly() -> None:
    turns = HostTurns(1, patience_seconds=60)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.turn(HOST))
        waiting = asyncio.create_task(turns.turn(HOST).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_once_somebody_has_waited_in_vain_nobody_waits_until_a_turn_is_given_back() -> None:
    turns = HostTurns(1, patience_seconds=60)
    async with turns.turn(HOST):
        turns._patience_seconds = 0.01  # noqa: SLF001 (the first to wait does so in vain)
        with pytest.raises(HostBusy):
            await turns.turn(HOST).__aenter__()
        turns._patience_seconds = 60  # noqa: SLF001 (who waits now would do so for the whole test)
        with pytest.raises(HostBusy):
            await turns.turn(HOST).__aenter__()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.turn(HOST))
        waiting = asyncio.create_task(turns.turn(HOST).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_hosts_do_not_get_in_each_others_way() -> None:
    turns = HostTurns(1, patience_seconds=0.01)
    async with turns.turn(HOST), turns.turn("b.test"):
        assert len(turns) == 2


async def test_zero_is_no_limit() -> None:
    turns = HostTurns(0)
    async with turns.turn(HOST), turns.turn(HOST):
        pass


async def test_a_host_is_forgotten_with_its_last_turn() -> None:
    turns = HostTurns(1, patience_seconds=0.01)
    async with turns.turn(HOST):
        with pytest.raises(HostBusy):
            await turns.turn(HOST).__aenter__()
    assert len(turns) == 0


# --- Fetches in a minute ---


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds that the counting goes by: at first the beginning of a minute."""
    now = [60_000.0]
    monkeypatch.setattr("throttled.utils.now_sec", lambda: int(now[0]))
    monkeypatch.setattr("throttled.utils.now_ms", lambda: int(now[0] * 1000))
    return now


def begun(pace: HostPace, tries: int, name: str = HOST) -> int:
    """Try to begin fetches at a host; return how many may."""
    count = 0
    for _ in range(tries):
        with suppress(TooManyFetches):
            pace.begin(name)
            count += 1
    return count


def test_a_host_is_asked_as_often_in_a_minute_as_it_may_be(seconds: list[float]) -> None:
    pace = HostPace(3)
    assert [begun(pace, 5), begun(pace, 5, "b.test")] == [3, 3]
    seconds[0] += 59
    assert begun(pace, 5) == 0
    seconds[0] += 61
    assert begun(pace, 5) == 3


@pytest.mark.usefixtures("seconds")
def test_who_is_put_off_is_told_when_to_try_again() -> None:
    pace = HostPace(1)
    pace.begin(HOST)
    told = r"FETCH_PER_HOST_PER_MINUTE is 1, .* at a\.test .* the next one may begin in 60 s"
    with pytest.raises(TooManyFetches, match=told):
        pace.begin(HOST)


def test_zero_fetches_in_a_minute_is_any_number() -> None:
    assert begun(HostPace(0), 1000) == 1000


@pytest.mark.usefixtures("seconds")
def test_hosts_not_asked_for_the_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.fetcher.hosts.MAX_PACED_HOSTS", 2)
    pace = HostPace(1)
    for name in ("a.test", "b.test", "c.test", "d.test", "e.test"):
        pace.begin(name)
    assert begun(pace, 1, "e.test") == 0
    assert begun(pace, 1, "a.test") == 1
