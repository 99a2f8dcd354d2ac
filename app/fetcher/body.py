"""The body of a response: decoded as it comes, and cut at a limit."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.fetcher.decoding import DECODING_ERRORS, PIECE_BYTES, Decoder, Identity, decoder_for

_RAW_ALLOWANCE = 65_536


@dataclass(frozen=True, slots=True)
class Body:
    """What was kept of a body.

    `truncated` says that it goes on, or that the rest could not be decoded. `as_labelled` is
    False where the body is not what its `Content-Encoding` says and is kept as received.
    """

    content: bytes
    truncated: bool
    as_labelled: bool


async def read_body(chunks: AsyncIterator[bytes], content_encoding: str, max_bytes: int) -> Body:
    """Read until the body ends or `max_bytes` of it, decoded, have been kept.

    The bytes on the wire are bounded as well, since a coding can take in any number of them
    and give nothing. A body that cannot be decoded from the start is kept as received; one that
    cannot be decoded any further is kept up to there.
    """
    decoder = decoder_for(content_encoding)
    reader = _Reader(decoder or Identity(), max_bytes)
    reader.as_labelled = decoder is not None
    complete = await reader.take_all(chunks)
    return reader.body(complete=complete)


class _Reader:
    def __init__(self, decoder: Decoder, max_bytes: int) -> None:
        self._decoder = decoder
        self._max_bytes = max_bytes
        # Incompressible data grows a little when coded.
        self._max_received = max_bytes + max_bytes // 16 + _RAW_ALLOWANCE
        self._received_bytes = 0
        self._received = bytearray()  # kept only until something has been decoded
        self._kept = bytearray()
        self.as_labelled = True

    async def take_all(self, chunks: AsyncIterator[bytes]) -> bool:
        """Tell whether everything could be taken."""
        async for chunk in chunks:
            if not await self._take(chunk):
                return False
        return True

    async def _take(self, chunk: bytes) -> bool:
        self._received_bytes += len(chunk)
        try:
            await self._decode(chunk)
        except DECODING_ERRORS:
            if self._kept:
                return False
            self._keep_as_received()
        return len(self._kept) <= self._max_bytes and self._received_bytes <= self._max_received

    async def _decode(self, chunk: bytes) -> None:
        if not self._kept:
            self._received += chunk
        for piece in self._decoder.feed(chunk):
            self._kept += piece
            if len(self._kept) > self._max_bytes:
                break
            if len(piece) >= PIECE_BYTES:  # there is likely more: let others have a go first
                await asyncio.sleep(0)
        if self._kept:
            self._received = bytearray()

    def _keep_as_received(self) -> None:
        self._kept, self._received = self._received, bytearray()
        self._decoder = Identity()
        self.as_labelled = False

    def body(self, *, complete: bool) -> Body:
        finished = self._decoder.finished or not self._received_bytes
        if not (finished or self._kept):
            self._keep_as_received()
            finished = True
        truncated = not (complete and finished) or len(self._kept) > self._max_bytes
        del self._kept[self._max_bytes :]
        return Body(bytes(self._kept), truncated, self.as_labelled)
