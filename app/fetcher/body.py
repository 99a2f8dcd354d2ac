"""The body of a response: decoded as it comes, and cut at a limit."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO

from app.fetcher.charset import looks_like_text
from app.fetcher.decoding import DECODING_ERRORS, Decoder, Identity, decoder_for

_RAW_ALLOWANCE = 65_536
# After so many bytes, and some output, the coding is trusted and the raw copy dropped.
_EVIDENCE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Body:
    """What was kept of a body.

    `truncated`: there was more of it, or the rest could not be decoded. `as_labelled` is False
    where the body is not in the coding that its `Content-Encoding` names, and is kept as received.
    """

    content: bytes
    truncated: bool
    as_labelled: bool


async def read_body(chunks: AsyncIterator[bytes], content_encoding: str, max_bytes: int) -> Body:
    """Read until the body ends, or until `max_bytes` of it have been decoded.

    The bytes received are bounded as well, because a coding may take in any number of bytes and
    give none. A body that cannot be decoded from its beginning is kept as received. One that
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
        self._received = BytesIO()  # kept only until it is clear that it can be decoded
        self._kept = BytesIO()  # gives its content away without a copy, unlike a bytearray
        self.as_labelled = True

    async def take_all(self, chunks: AsyncIterator[bytes]) -> bool:
        """Tell whether everything could be taken."""
        async for chunk in chunks:
            if not self._take(chunk):
                return False
        return True

    def _take(self, chunk: bytes) -> bool:
        self._receive(chunk)
        try:
            self._decode(chunk)
        except DECODING_ERRORS:
            if not self._is_wrongly_labelled():
                return False
            self._keep_as_received()
        if self._leaves_text_behind():
            self._keep_as_received()
        return self._kept.tell() <= self._max_bytes and self._received_bytes <= self._max_received

    def _receive(self, chunk: bytes) -> None:
        self._received_bytes += len(chunk)
        if self._kept.tell() and self._received_bytes > _EVIDENCE_BYTES:
            self._received = BytesIO()
        else:
            self._received.write(chunk)

    def _decode(self, chunk: bytes) -> None:
        # Without a pause: a decoder that still has more to give holds up to 16 MB for it (the
        # window of brotli). Of sixteen bombs, only one at a time is in that state this way. It
        # takes some milliseconds, since no more than `max_bytes` are taken.
        for piece in self._decoder.feed(chunk):
            self._kept.write(piece)
            if self._kept.tell() > self._max_bytes:
                break

    def _is_wrongly_labelled(self) -> bool:
        """Tell whether nothing could be decoded, or nothing but a few bytes of plain text."""
        received = self._received.getvalue()
        return not self._kept.tell() or (bool(received) and looks_like_text(received))

    def _leaves_text_behind(self) -> bool:
        """Tell whether the coding is over near the beginning of what is plain text.

        `{` and some white space is a whole bare deflate stream, and `;` a whole brotli stream.
        """
        received_bytes = self._received.tell()
        is_over = self._decoder.finished and self._kept.tell() * 2 < received_bytes
        # An empty body in brotli may be that `;` alone. Otherwise coded data is not like text.
        return is_over and received_bytes > 1 and looks_like_text(self._beginning())

    def _beginning(self) -> bytes:
        # Not getvalue(), after which the next write copies everything.
        with self._received.getbuffer() as received:
            return bytes(received[:_EVIDENCE_BYTES])

    def _keep_as_received(self) -> None:
        self._kept, self._received = self._received, BytesIO()
        self._decoder = Identity()
        self.as_labelled = False

    def body(self, *, complete: bool) -> Body:
        unfinished = bool(self._received_bytes) and not self._decoder.finished
        if unfinished and self._is_wrongly_labelled():
            self._keep_as_received()
            unfinished = False
        truncated = unfinished or not complete or self._kept.tell() > self._max_bytes
        self._kept.truncate(self._max_bytes)
        return Body(self._kept.getvalue(), truncated, self.as_labelled)
