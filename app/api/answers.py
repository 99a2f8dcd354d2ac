"""Answers about a page: small ones whole, large ones one after another and piece by piece.

The largest page source takes 15 MB in MongoDB. Memory needs up to seven times the size of a
source while it is read, and its size until the client has received it. So both are bounded: a
request for a large page waits until there is room, and is answered 503 if there is none in time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.problems import LARGE_PAGES_BUSY, ProblemKind, Refusal
from app.api.schemas import page_answer
from app.models import PageRecord, PageStatus

JSON = "application/json"

POLL_AFTER_SECONDS: dict[PageStatus | str, int] = {PageStatus.FAILED_RETRYABLE: 5}
"""`Retry-After` by status, for pages that have not ended; 1 for other statuses."""

READING_BYTES = 16 * 1024 * 1024
"""How many bytes of page sources may be read from MongoDB at once: one of the largest sources,
or several others."""

SENDING_BYTES = 96 * 1024 * 1024
"""How many bytes of page sources may be held at once while they are sent."""

WAIT_SECONDS = 5.0
"""How long a request waits for room before it is answered 503."""

MAX_WAITING = 200
"""How many requests may wait for room; any further one is answered 503 at once."""


def as_json(
    body: BaseModel,
    status: HTTPStatus,
    headers: dict[str, str] | None = None,
    *,
    leaves_out_unset: bool = False,
) -> Response:
    """Answer with a model as it is: its values were checked when they were read or made."""
    text = body.model_dump_json(exclude_unset=leaves_out_unset)
    return Response(text, status, headers=headers, media_type=JSON)


def pending(record: PageRecord, headers: dict[str, str]) -> Response:
    """Answer with what is known of a page that has not ended."""
    retry_after = {"Retry-After": str(POLL_AFTER_SECONDS.get(record.status, 1))}
    return as_json(page_answer(record), HTTPStatus.ACCEPTED, retry_after | headers)


class Room:
    """A number of bytes, or of turns, that may be in use at once; whoever needs more waits.

    A small request may overtake a large one, so that ordinary pages do not wait for the largest.
    Whoever has waited in vain is answered with a problem of the kind `when_full`.
    """

    def __init__(
        self,
        capacity: int,
        *,
        when_full: ProblemKind = LARGE_PAGES_BUSY,
        wait_seconds: float = WAIT_SECONDS,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._capacity = self._free = capacity
        self._when_full = when_full
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._waiting = 0
        self._released = asyncio.Event()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Use so much of it within the block. Raises `Refusal` if it does not become free."""
        size = min(size, self._capacity)
        await self._wait_until_free(size)
        self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._released.set()
            self._released = asyncio.Event()

    async def _wait_until_free(self, size: int) -> None:
        if size <= self._free:
            return
        if self._waiting >= self._max_waiting:
            raise Refusal.of(self._when_full)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                while size > self._free:
                    await self._released.wait()
        except TimeoutError as exc:
            raise Refusal.of(self._when_full) from exc
        finally:
            self._waiting -= 1


PIECE_BYTES = 64 * 1024


class HeldAnswer(Response):
    """Sends an answer piece by piece, and then gives back what was taken for it.

    The server takes a piece only when its client has received most of those before. An answer that
    is sent at once would stay in the server's memory for as long as its client does not read.
    """

    def __init__(self, answer: Response, holding: AsyncExitStack) -> None:
        super().__init__()
        self._answer = answer
        self._holding = holding

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer."""
        answer, body = self._answer, bytes(self._answer.body)
        async with self._holding:
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status_code,
                    "headers": answer.raw_headers,
                }
            )
            for at in range(0, len(body), PIECE_BYTES):
                piece = body[at : at + PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})


@dataclass(frozen=True, slots=True)
class LargePages:
    """The two rooms that all large pages of a process share."""

    reading: Room
    sending: Room

    def answer(self, size: int, read: Callable[[], Awaitable[Response]]) -> Response:
        """Answer with a page whose source takes so many bytes, once there is room to read it."""
        return _LargePage(self, size, read)


class _LargePage(Response):
    """Reads the page when it is sent, so that whatever it holds is freed with the request."""

    def __init__(
        self, rooms: LargePages, size: int, read: Callable[[], Awaitable[Response]]
    ) -> None:
        super().__init__()
        self._rooms = rooms
        self._size = size
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._rooms.sending.taken(self._size):
            async with self._rooms.reading.taken(self._size):
                answer = await self._read()
            await answer(scope, receive, send)
