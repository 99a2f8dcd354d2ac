"""`Prefer: wait=N` (RFC 7240): an answer that comes when the page has ended.

A client that hangs up while it waits frees its place. Where as many wait as may, and while the
process stops, the preference is ignored, as RFC 7240 allows: the answer comes at once.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter
from urllib.request import parse_http_list

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import Receive

from app.models import Awaited
from app.waiting import WaitEnd, Waiters

MAX_WAIT_SECONDS = 60

_MAX_DIGITS = 9


def wait_preference(headers: Headers) -> int | None:
    """Return for how many seconds the caller would wait, at most 60; None if it would not.

    Of several such preferences the first counts (RFC 7240, 2). One that cannot be read is ignored.
    """
    for preference in parse_http_list(", ".join(headers.getlist("prefer"))):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            return _seconds(value.strip().strip('"'))
    return None


def _seconds(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > _MAX_DIGITS:  # `int()` raises ValueError for thousands of them
        return MAX_WAIT_SECONDS
    return min(int(text), MAX_WAIT_SECONDS)


@dataclass(slots=True)
class Patience:
    """How long the caller of one request waits for a page."""

    waiters: Waiters
    request: Request

    seconds: int | None
    """None if the caller does not wait, or if `wait()` found that it may not."""

    @staticmethod
    def of(request: Request, waiters: Waiters) -> "Patience":
        """Read the preference of a request, which is ignored if there is no room to wait."""
        seconds = wait_preference(request.headers) if waiters.has_room else None
        return Patience(waiters, request, seconds)

    @property
    def applied(self) -> dict[str, str]:
        """The header of the answer that says so."""
        if self.seconds is None:
            return {}
        return {"Preference-Applied": f"wait={self.seconds}"}

    async def wait(self, awaited: Awaited) -> bool:
        """Say whether the wait was over before that time, and before the caller hung up."""
        if not self.seconds:
            return False
        began = perf_counter()
        how = await self._wait(awaited, self.seconds)
        self.request.scope["waited_seconds"] = perf_counter() - began
        # Others may have taken the last place since `has_room` was read, and the process may stop
        # during the wait. If such an answer had `Preference-Applied`, its client would ask again
        # without a pause.
        if how is WaitEnd.REFUSED:
            self.seconds = None
        return how is WaitEnd.OVER

    async def _wait(self, awaited: Awaited, seconds: int) -> WaitEnd | None:
        """Return how the wait ended, or None if the caller hung up."""
        waiting = asyncio.create_task(self.waiters.wait(awaited, seconds))
        hanging_up = asyncio.create_task(_until_disconnected(self.request.receive))
        try:
            await asyncio.wait({waiting, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            hanging_up.cancel()
            await asyncio.wait({waiting, hanging_up})


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
