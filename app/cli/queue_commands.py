"""`queues` and `watch`: how full the queues are, and who consumes them."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from app.assembly import topology_of
from app.broker.connection import broker_urls
from app.broker.inspection import connected, look
from app.broker.queues import QueueCounts
from app.cli.terminal import NOT_AS_WISHED, Json, console, print_json, run
from app.runtime.settings import load_settings

Counts = dict[str, QueueCounts | None]

Every = Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks")]
Times = Annotated[int, typer.Option("--times", min=0, help="Looks to take; 0 is until Ctrl-C")]


def queues(*, as_json: Json = False) -> None:
    """Show every queue with its waiting messages and its consumers.

    Exit code: 0 if all are there, 1 if one is missing, 2 without a broker.
    """
    counts = run(_look_once())
    if as_json:
        print_json(_as_json(counts))
    else:
        console.print(_table(counts, None, 1.0))
    if None in counts.values():
        raise typer.Exit(NOT_AS_WISHED)


def watch(*, every: Every = 1.0, times: Times = 0, as_json: Json = False) -> None:
    """Show the queues again and again, with how fast they grow or shrink.

    With --json one line for each look.
    """
    run(_watch_json(every, times) if as_json else _watch(every, times))


async def _look_once() -> Counts:
    async with aclosing(_looks(1.0, 1)) as looks:
        return await anext(looks)


async def _looks(every: float, times: int) -> AsyncGenerator[Counts, None]:
    settings = load_settings()
    timeout = settings.broker_publish_timeout_seconds
    urls = broker_urls(settings.broker_url)
    async with connected(urls, timeout_seconds=timeout) as connection:
        for number in count(1):
            yield await look(connection, topology_of(settings))
            if number == times:
                return
            await asyncio.sleep(every)


async def _watch(every: float, times: int) -> None:
    before: Counts | None = None
    seen = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        async for counts in _looks(every, times):
            now = time.monotonic()
            live.update(_table(counts, before, now - seen), refresh=True)
            before, seen = counts, now


async def _watch_json(every: float, times: int) -> None:
    async for counts in _looks(every, times):
        print_json({"time": time.time(), "queues": _as_json(counts)})


def _as_json(counts: Counts) -> dict[str, dict[str, int] | None]:
    return {name: one._asdict() if one else None for name, one in counts.items()}


def _table(counts: Counts, before: Counts | None, seconds: float) -> Table:
    table = Table("queue", box=None)
    for column in ("messages", "a second", "consumers"):
        table.add_column(column, justify="right")
    for name, one in counts.items():
        table.add_row(name, *_row(one, before.get(name) if before else None, seconds))
    return table


def _row(now: QueueCounts | None, before: QueueCounts | None, seconds: float) -> tuple[str, ...]:
    if now is None:
        return "missing", "", ""
    change = f"{(now.messages - before.messages) / seconds:+.0f}" if before else ""
    return str(now.messages), change, str(now.consumers)
