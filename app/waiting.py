"""Waiting for pages: many callers, and one query for all of them.

Any worker may fetch the page, and any API process may have taken the request, so only the database
knows when a wait is over. While somebody waits, one task asks it about all waits together, at most
twenty times a second; while nobody does, nothing is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from enum import Enum, auto
from time import monotonic

from app.errors import StoreUnavailable
from app.models import Awaited

PAUSE_SECONDS = 0.05
"""The shortest pause between two queries."""

REST = 4
"""How many times as long as the last query took the pause is, between the shortest and the longest.
So a query that takes up to a quarter of a second has the database busy for a fifth of the time at
most. A slower one has it busy for more, such as half of the time if it takes a second."""

LONGEST_PAUSE_SECONDS = 1.0
"""The longest pause between two queries, so that nobody hears of a page much later."""

Ask = Callable[[Collection[Awaited]], Awaitable[set[Awaited]]]


class WaitEnd(Enum):
    """How a wait ended."""

    OVER = auto()
    """What was awaited has come."""

    TIMED_OUT = auto()
    """It has not come in the time that the caller would wait."""

    REFUSED = auto()
    """The caller did not wait, or not so long: there was no room, or the process stops."""


class Waiters:
    """Callers that wait for pages, at most so many at once.

    `ask` returns those of many waits that are over. It may raise `StoreUnavailable`: then it is
    asked again.
    """

    def __init__(self, ask: Ask, *, most: int) -> None:
        self._ask = ask
        self._most = most
        self._waiting: dict[asyncio.Future[WaitEnd], Awaited] = {}
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def has_room(self) -> bool:
        """Whether one more caller may wait."""
        return not self._closed and len(self._waiting) < self._most

    async def wait(self, awaited: Awaited, seconds: float) -> WaitEnd:
        """Wait for at most so many seconds; return how the wait ended."""
        if not self.has_room:
            return WaitEnd.REFUSED
        over: asyncio.Future[WaitEnd] = asyncio.get_running_loop().create_future()
        self._waiting[over] = awaited
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(seconds):
                return await over
        except TimeoutError:
            return WaitEnd.TIMED_OUT
        finally:
            del self._waiting[over]

    def close(self) -> None:
        """End every wait at once, and any later one."""
        self._closed = True
        _end(self._waiting, WaitEnd.REFUSED)

    async def _poll(self) -> None:
        try:
            while self._waiting:
                began = monotonic()
                await self._end_those_over()
                pause = max(PAUSE_SECONDS, REST * (monotonic() - began))
                await asyncio.sleep(min(pause, LONGEST_PAUSE_SECONDS))
        finally:
            self._poller = None

    async def _end_those_over(self) -> None:
        waiting = dict(self._waiting)  # others begin and end meanwhile
        with suppress(StoreUnavailable):
            over = await self._ask(set(waiting.values()))
            ended = [future for future, awaited in waiting.items() if awaited in over]
            _end(ended, WaitEnd.OVER)


def _end(futures: Iterable["asyncio.Future[WaitEnd]"], how: WaitEnd) -> None:
    for future in futures:
        if not future.done():
            future.set_result(how)
