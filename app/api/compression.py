"""Compresses answers by gzip, without holding up the event loop.

zlib lets other threads run while it compresses, so whatever takes longer than a millisecond is
compressed in a thread.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

LEVEL = 3
"""On pages of 5 MB it needs two fifths of the time of zlib's default, and makes answers a fifth
larger."""

MAX_INLINE_BYTES = 64 * 1024
"""Up to this size an answer is compressed at once: a thread would take longer to begin."""

# zlib's way to ask for the format of gzip, which then has no time in it.
_GZIP = 16 + zlib.MAX_WBITS


async def gzipped(body: bytes) -> bytes:
    """Return a whole answer compressed."""
    if len(body) <= MAX_INLINE_BYTES:
        return zlib.compress(body, LEVEL, wbits=_GZIP)
    return await asyncio.to_thread(zlib.compress, body, LEVEL, _GZIP)


async def gzipped_pieces(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield an answer compressed, piece by piece."""
    compressor = zlib.compressobj(LEVEL, wbits=_GZIP)
    for piece in pieces:
        if compressed := await asyncio.to_thread(compressor.compress, piece):
            yield compressed
    yield await asyncio.to_thread(compressor.flush)


async def as_they_are(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield an answer piece by piece."""
    for piece in pieces:
        yield piece
