import asyncio

import pytest

from app.errors import HostBusy
from app.fetcher.hosts import HostTurns


async def test_a_host_gets_no_more_turns_at_once_than_its_limit() -> None:
    turns, busy, most = HostTurns(2), 0, 0

    async def visit() -> None:
        nonlocal busy, most
        async with turns.turn("a.test"):
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0)
            busy -= 1

    await asyncio.gather(*(visit() for _ in range(10)))
    assert most == 2


async def test_hosts_do_not_wait_for_each_other() -> None:
    turns = HostTurns(1)
    async with asyncio.timeout(1), turns.turn("a.test"), turns.turn("b.test"):
        pass


async def test_zero_is_no_limit() -> None:
    turns = HostTurns(0)
    async with asyncio.timeout(1), turns.turn("a.test"), turns.turn("a.test"):
        assert len(turns) == 0


async def test_a_host_is_forgotten_with_its_last_turn() -> None:
    turns = HostTurns(1)
    async with turns.turn("a.test"):
        waiting = asyncio.ensure_future(turns.turn("a.test").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(turns) == 1

    assert len(turns) == 0


async def test_who_waits_too_long_is_sent_away_and_takes_no_place() -> None:
    turns = HostTurns(1, patience_seconds=0.01)
    async with turns.turn("a.test"):
        with pytest.raises(HostBusy, match=r"all 1 connections to a\.test are in use"):
            await turns.turn("a.test").__aenter__()
    async with turns.turn("a.test"):
        pass
    assert len(turns) == 0
