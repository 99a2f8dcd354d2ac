import asyncio
from contextlib import AsyncExitStack

import pytest

from app.errors import HostBusy
from app.fetcher.hosts import HostTurns

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
