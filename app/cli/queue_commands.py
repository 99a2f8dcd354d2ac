"""`queues` and `watch`: how many messages and consumers each queue has."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from itertools import count
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from app.assembly import topology_of
from app.broker.cluster import connected
from app.broker.queues import Counts, QueueCounts, count_queues
from app.cli.terminal import (
    EXIT_BAD_RESULT,
    Json,
    console,
    print_json,
    print_table,
    read_settings,
    run,
)

Every = Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two counts")]
Times = Annotated[int, typer.Option("--times", min=0, help="How often to count; 0: until Ctrl-C")]


Rates = dict[str, float | None]
"""How many messages a second each queue has grown by, None if that is not known. RabbitMQ tells how
many there are, but not how many come and go."""


def queues(*, as_json: Json = False) -> None:
    """Show each queue with the messages that wait in it and its consumers.

    Exit code: 0 if every queue exists, 1 if one is missing, 2 if the broker does not answer.
    """
    counts = run(_count_once())
    if as_json:
        print_json(_as_json(counts))
    else:
        console.print(_table(counts, {}))
    if None in counts.values():
        raise typer.Exit(EXIT_BAD_RESULT)


def watch(*, every: Every = 1.0, times: Times = 0, as_json: Json = False) -> None:
    """Show the queues again and again, with how many messages a second each grows or shrinks by.

    With --json each count is one line, and the rate is `per_second`, which is null at first.
    Exit code: 0, or 2 if the broker does not answer.
    """
    run(_watch_json(every, times) if as_json else _watch(every, times))


async def _count_once() -> Counts:
    async with aclosing(_counts(every=1.0, times=1)) as each_count:
        return await anext(each_count)


async def _counts(every: float, times: int) -> AsyncGenerator[Counts, None]:
    settings = read_settings()
    timeout = settings.broker_publish_timeout_seconds
    async with connected(settings.broker_url, timeout_seconds=timeout) as connection:
        for number in count(1):
            yield await count_queues(connection.channel, topology_of(settings))
            if number == times:
                return
            await asyncio.sleep(every)


async def _watch(every: float, times: int) -> None:
    with _shown_in_turn() as show:
        async for counts, rates in with_rates(_counts(every, times)):
            show(_table(counts, rates))


@contextmanager
def _shown_in_turn() -> Iterator[Callable[[Table], None]]:
    """Yield a function that shows a table.

    On a terminal each table takes the place of the one before it. Elsewhere it is printed below.
    """
    if not console.is_terminal:
        yield print_table
        return
    with Live(console=console, auto_refresh=False) as live:
        yield partial(live.update, refresh=True)


async def _watch_json(every: float, times: int) -> None:
    async for counts, rates in with_rates(_counts(every, times)):
        queues = _as_json(counts)
        for name, one in queues.items():
            if one is not None:
                one["per_second"] = rates[name]
        print_json({"time": time.time(), "queues": queues})


async def with_rates(
    each_count: AsyncGenerator[Counts, None],
) -> AsyncGenerator[tuple[Counts, Rates], None]:
    """Yield each count, with the rates since the one before."""
    before: Counts = {}
    counted_at = time.monotonic()
    async for counts in each_count:
        now = time.monotonic()
        seconds = now - counted_at
        yield counts, {name: _rate(it, before.get(name), seconds) for name, it in counts.items()}
        before, counted_at = counts, now


def _rate(now: QueueCounts | None, before: QueueCounts | None, seconds: float) -> float | None:
    if now is None or before is None or seconds <= 0:
        return None
    return round((now.messages - before.messages) / seconds, 1)


def _as_json(counts: Counts) -> dict[str, dict[str, Any] | None]:
    return {name: one._asdict() if one else None for name, one in counts.items()}


def _table(counts: Counts, rates: Rates) -> Table:
    table = Table("queue", box=None)
    for column in ("messages", "a second", "consumers"):
        table.add_column(column, justify="right")
    for name, one in counts.items():
        table.add_row(name, *_row(one, rates.get(name)))
    return table


def _row(now: QueueCounts | None, rate: float | None) -> tuple[str, ...]:
    if now is None:
        return "missing", "", ""
    change = "" if rate is None else f"{rate:+.1f}"
    return str(now.messages), change, str(now.consumers)
