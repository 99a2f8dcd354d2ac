"""Answers about a page: small ones whole, large ones one after another and piece by piece.

The largest page source takes 15 MB in MongoDB. Memory needs up to seven times the size of a
source while it is read, and its size until the client has received it. So both are bounded: a
request for a large page waits until there is room, and is answered 503 if there is none in time.
"""

import asyncio
import codecs
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from uuid import uuid4

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from app.api.problems import LARGE_PAGES_BUSY, Refusal
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

PIECE_BYTES = 64 * 1024

_SOURCE_PLACE = uuid4().hex
"""Stands for the page source while the rest of an answer is made. No page can contain it: nobody
outside this process knows it."""


def as_json(body: BaseModel, status: HTTPStatus, headers: dict[str, str] | None = None) -> Response:
    """Answer with a model as it is: its values were checked when they were read or made."""
    return Response(body.model_dump_json(), status, headers=headers, media_type=JSON)


def about_page(record: PageRecord) -> Response:
    """Answer with what is known of a page."""
    return as_json(page_answer(record), _status(record), _headers(record))


def _status(record: PageRecord) -> HTTPStatus:
    return HTTPStatus.OK if record.has_ended else HTTPStatus.ACCEPTED


def _headers(record: PageRecord) -> dict[str, str]:
    if record.has_ended:
        return {}
    return {"Retry-After": str(POLL_AFTER_SECONDS.get(record.status, 1))}


class Room:
    """A number of bytes that may be in use at once; whoever needs more than are free waits.

    A small request may overtake a large one, so that ordinary pages do not wait for the largest.
    """

    def __init__(
        self,
        total_bytes: int,
        *,
        wait_seconds: float = WAIT_SECONDS,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._total_bytes = self._free_bytes = total_bytes
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._waiting = 0
        self._released = asyncio.Event()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Use so many bytes within the block. Raises `Refusal` if they do not become free."""
        size = min(size, self._total_bytes)
        await self._wait_until_free(size)
        self._free_bytes -= size
        try:
            yield
        finally:
            self._free_bytes += size
            self._released.set()
            self._released = asyncio.Event()

    async def _wait_until_free(self, size: int) -> None:
        if size <= self._free_bytes:
            return
        if self._waiting >= self._max_waiting:
            raise _refusal()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                while size > self._free_bytes:
                    await self._released.wait()
        except TimeoutError as exc:
            raise _refusal() from exc
        finally:
            self._waiting -= 1


def _refusal() -> Refusal:
    return Refusal(LARGE_PAGES_BUSY, str(LARGE_PAGES_BUSY.fixed_detail))


@dataclass(frozen=True, slots=True)
class LargePages:
    """The two rooms that all large pages of a process share."""

    reading: Room
    sending: Room

    def answer(self, size: int, read: Callable[[], Awaitable[PageRecord | None]]) -> Response:
        """Answer with a page whose source takes so many bytes, once there is room to read it."""
        return _LargePage(self, size, read)


class _LargePage(Response):
    """Reads the page when it is sent, so that whatever it holds is freed with the request."""

    def __init__(
        self, rooms: LargePages, size: int, read: Callable[[], Awaitable[PageRecord | None]]
    ) -> None:
        super().__init__()
        self._rooms = rooms
        self._size = size
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._rooms.sending.taken(self._size):
            async with self._rooms.reading.taken(self._size):
                answer = _streamed(await self._read())
            await answer(scope, receive, send)


def _streamed(record: PageRecord | None) -> Response:
    """Answer with a page piece by piece, so that its JSON is never whole in memory."""
    if record is None:  # it was deleted between the look at its size and the reading
        raise _refusal()
    if record.metadata is None or record.metadata.page_source is None:
        return about_page(record)
    source = record.metadata.page_source.encode()  # a `str` may take four times as much
    metadata = replace(record.metadata, page_source=_SOURCE_PLACE)
    rest = page_answer(replace(record, metadata=metadata)).model_dump_json().encode()
    before, _, after = rest.partition(_SOURCE_PLACE.encode())
    return StreamingResponse(
        _pieces(before, source, after), _status(record), _headers(record), media_type=JSON
    )


async def _pieces(before: bytes, source: bytes, after: bytes) -> AsyncIterator[bytes]:
    yield before
    for text in _text_of(source):
        yield to_json(text)[1:-1]  # without its quotation marks
    yield after


def _text_of(source: bytes) -> Iterator[str]:
    """Decode UTF-8 piece by piece. A character that a cut divides comes with the later piece."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(source), PIECE_BYTES):
        yield decoder.decode(source[start : start + PIECE_BYTES])
