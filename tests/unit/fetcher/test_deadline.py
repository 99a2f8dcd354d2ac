import asyncio

import pytest

from app.fetcher.deadline import TimeBudget


async def working(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def test_only_running_time_counts() -> None:
    budget = TimeBudget(5)
    async with budget.running():
        await working(0.05)
    used = budget.used_seconds

    await working(0.1)  # as when waiting for a turn
    async with budget.running():
        assert budget.used_seconds == used


async def test_the_second_stretch_has_what_the_first_one_left() -> None:
    budget = TimeBudget(0.2)
    async with budget.running():
        await working(0.15)

    with pytest.raises(TimeoutError):
        async with budget.running():
            await working(0.15)
    assert budget.used_seconds == pytest.approx(0.2, abs=0.15)
