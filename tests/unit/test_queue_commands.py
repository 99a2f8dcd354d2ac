"""How `pagemeta watch` counts what comes and goes, without a broker."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest

from app.broker.queues import Counts, QueueCounts
from app.cli import queue_commands
from app.cli.queue_commands import with_rates


async def counted(*messages: int | None) -> AsyncGenerator[Counts, None]:
    for count in messages:
        yield {"requests": None if count is None else QueueCounts(count, 1)}


async def test_a_rate_is_the_difference_of_two_counts_by_the_time_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 0.1, 2.1, 3.1, 4.1, 5.1])
    monkeypatch.setattr(queue_commands, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    rates = [it["requests"] async for _, it in with_rates(counted(10, 25, 15, None, 3))]
    assert rates == [None, 7.5, -10.0, None, None]
