"""Where the body of a response ends (RFC 9112, section 6.3).

Each connection carries one response. So a length that is wrong or disputed can spoil that
response alone, and some of what the RFC calls an error is read here as browsers read it.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Protocol

from app.fetcher.head import ResponseHead, invalid_response

READ_BYTES = 65_536
MAX_LENGTH_DIGITS = 18  # of a Content-Length: anything longer is no length of a real body
MAX_SIZE_LINE_BYTES = 4096  # of one chunk, with its extensions
FRAMING_ALLOWANCE_BYTES = 65_536

_WITHOUT_BODY = {204, 304}

# A chunk follows on the line end of the one before it. Extensions are read over. Some servers end
# lines with LF alone; browsers and curl take that.
_SIZE_LINE = re.compile(rb"\r?\n([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")
_LINE_END = b"\r\n"


class Framing(Protocol):
    """Tells the body from what is sent around it."""

    @property
    def finished(self) -> bool:
        """Whether the body is complete, so that nothing more needs to be read."""

    def take(self, received: bytes) -> bytes:
        """Return what `received`, the next bytes on the connection, holds of the body."""


class Sized:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._missing_bytes = length

    @property
    def finished(self) -> bool:
        """Whether every byte has come."""
        return not self._missing_bytes

    def take(self, received: bytes) -> bytes:
        """Return `received` up to the end of the body."""
        taken = received[: self._missing_bytes]
        self._missing_bytes -= len(taken)
        return taken


class UntilClose:
    """A body that goes on until the server closes the connection."""

    finished = False

    def take(self, received: bytes) -> bytes:
        """Return all of `received`."""
        return received


class Chunked:
    """The chunked transfer coding (RFC 9112, section 7.1); trailers are not waited for.

    A server may send each byte of a page as a chunk of its own, which makes us parse five bytes
    for every byte that counts. So what is sent around the body is limited to
    `FRAMING_ALLOWANCE_BYTES` and half of the body: chunks of ten bytes and more are always taken.
    """

    def __init__(self) -> None:
        self.finished = False
        self._missing_bytes = 0  # of the current chunk
        # The line end after a chunk is read as the beginning of the next size line. There is no
        # chunk before the first one, so its line end is supplied here.
        self._unparsed = _LINE_END
        self._received_bytes = 0
        self._body_bytes = 0

    def take(self, received: bytes) -> bytes:
        """Return the content of the chunks in `received`, in one piece.

        Raises `FetchError` where the bytes are not in this coding.
        """
        data = self._unparsed + received
        pieces: list[bytes] = []
        end = self._parse(data, pieces)
        body = b"".join(pieces)
        self._unparsed = data[end:]
        self._received_bytes += len(received)
        self._body_bytes += len(body)
        if not self.finished:
            self._refuse_hopeless()
        return body

    def _parse(self, data: bytes, pieces: list[bytes]) -> int:
        """Add the content of each chunk to `pieces`; return how far `data` could be parsed."""
        at = 0
        while not self.finished:
            piece = data[at : at + self._missing_bytes]
            pieces.append(piece)
            at += len(piece)
            self._missing_bytes -= len(piece)
            line = None if self._missing_bytes else _SIZE_LINE.match(data, at)
            if line is None:
                break
            at = line.end()
            self._missing_bytes = int(line[1], 16)
            self.finished = not self._missing_bytes
        return at

    def _refuse_hopeless(self) -> None:
        _, _, line = self._unparsed.partition(b"\n")
        if b"\n" in line or len(self._unparsed) > MAX_SIZE_LINE_BYTES:
            raise invalid_response("the size of a chunk is not valid")
        framing_bytes = self._received_bytes - self._body_bytes
        if framing_bytes > FRAMING_ALLOWANCE_BYTES + self._body_bytes // 2:
            raise invalid_response("the body is sent in too many small chunks")


def framing_of(head: ResponseHead) -> Framing:
    """Return how the body of the answer to a GET is framed.

    Raises `FetchError` where the head leaves that open. A chunked body is read by its chunks
    whatever `Content-Length` says.
    """
    if head.status_code in _WITHOUT_BODY:
        return Sized(0)
    codings = _items(head, "transfer-encoding") - {"identity"}
    if codings == {"chunked"}:
        return Chunked()
    if codings:
        raise invalid_response("the transfer coding of the response is not known")
    lengths = _items(head, "content-length")
    return Sized(_length(lengths)) if head.values("content-length") else UntilClose()


def _items(head: ResponseHead, name: str) -> set[str]:
    """Return the different items of a header that is a list, in lower case."""
    return {item.strip().lower() for item in ",".join(head.values(name)).split(",")} - {""}


def _length(lengths: set[str]) -> int:
    """Return the one length that was sent, even if it was sent twice."""
    if len(lengths) != 1:
        raise invalid_response("the response has several lengths, or an empty one")
    length = lengths.pop()
    if not (length.isascii() and length.isdecimal() and len(length) <= MAX_LENGTH_DIGITS):
        raise invalid_response("the length of the response is not a number")
    return int(length)


async def read_framed(
    reader: asyncio.StreamReader, head: ResponseHead
) -> AsyncGenerator[bytes, None]:
    """Yield the body that follows `head` in pieces of at most `READ_BYTES`.

    Raises `ConnectionResetError` if the connection ends within the body.
    """
    framing = framing_of(head)
    received = head.rest
    while not framing.finished:
        received = received or await reader.read(READ_BYTES)
        if not received and isinstance(framing, UntilClose):
            return
        if not received:
            raise ConnectionResetError("the connection ended within the body")
        if piece := framing.take(received):
            yield piece
        if len(received) == READ_BYTES:
            # More may have come already, which read() returns without waiting: it is the turn
            # of other pages first.
            await asyncio.sleep(0)
        received = b""
