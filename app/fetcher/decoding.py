"""Decoders of the content codings gzip, deflate, br and zstd (RFC 9110, section 8.4.1).

A few hundred bytes can decode to gigabytes. So no decoder is asked for everything it has: each
gives pieces of about `PIECE_BYTES` (brotli up to half as much again), and the caller stops when it
has enough.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

import brotli  # type: ignore[import-untyped]  # carries no annotations

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd  # the same module, for older versions of Python

ACCEPT_ENCODING = "gzip, deflate, br, zstd"
PIECE_BYTES = 65_536
MAX_PARTS = 1000  # members or frames of one body: a million tiny ones would take seconds
DECODING_ERRORS = (zlib.error, brotli.error, zstd.ZstdError)

# What `zlib.decompressobj()` returns has no public name. This is its private one in the typeshed of
# mypy 2.4.1, which would report this line if that went. At run time it is only text.
_Inflater: TypeAlias = "zlib._Decompress"  # noqa: SLF001 (see above)

_GZIP_WBITS = 31
_ZLIB_WBITS = 15
_RAW_DEFLATE_WBITS = -15
_GZIP_START = b"\x1f\x8b"
_ZSTD_STARTS = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16)))
# Windows of up to 8 MiB: RFC 9659, section 3.
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


class Decoder(Protocol):
    """Decodes one coding; raises one of `DECODING_ERRORS` for bytes that are not in it."""

    @property
    def finished(self) -> bool:
        """Whether what was fed so far is complete."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to; bytes after the end of the coded data are ignored."""


class Identity:
    """No coding at all."""

    finished = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` as it is."""
        yield data


class Gzip:
    """`gzip` (RFC 1952): one member or several."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WBITS)
        self._members_left = MAX_PARTS

    @property
    def finished(self) -> bool:
        """Whether the last member is complete."""
        return self._member.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to."""
        while data and (not self._member.eof or self._begins_member(data)):
            yield from _inflate(self._member, data)
            data = self._member.unused_data

    def _begins_member(self, data: bytes) -> bool:
        """Get ready for another member if that is what `data` is."""
        if not data.startswith(_GZIP_START[: len(data)]):
            return False
        self._members_left -= 1
        if self._members_left < 0:
            raise zlib.error("too many members")
        self._member = zlib.decompressobj(_GZIP_WBITS)
        return True


class Deflate:
    """`deflate`: zlib's format (RFC 1950), or the bare one (RFC 1951) some servers send."""

    def __init__(self) -> None:
        self._stream: _Inflater | None = None

    @property
    def finished(self) -> bool:
        """Whether the end of the stream has been seen."""
        return self._stream is not None and self._stream.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to."""
        if self._stream is None:
            # Compression method 8 stands in the low half of a zlib header's first byte.
            is_zlib = data[0] & 0x0F == zlib.DEFLATED
            self._stream = zlib.decompressobj(_ZLIB_WBITS if is_zlib else _RAW_DEFLATE_WBITS)
        if not self._stream.eof:
            yield from _inflate(self._stream, data)


def _inflate(stream: _Inflater, data: bytes) -> Iterator[bytes]:
    """Yield pieces until the stream has taken all of `data` and has nothing more to give.

    The last bytes of a stream are its checksum, 8 in gzip and 4 in zlib. They are decompressed on
    their own, so that the text before a wrong checksum is not lost.
    """
    for part in (data[:-8], data[-8:-4], data[-4:]):
        yield from _inflate_part(stream, part)


def _inflate_part(stream: _Inflater, data: bytes) -> Iterator[bytes]:
    piece = stream.decompress(data, PIECE_BYTES)
    yield piece
    # After a full piece there may be more to come, even if all input has been taken. At the end of
    # the stream `unconsumed_tail` keeps what follows it, so `eof` is asked first.
    while not stream.eof and (stream.unconsumed_tail or len(piece) == PIECE_BYTES):
        piece = stream.decompress(stream.unconsumed_tail, PIECE_BYTES)
        yield piece


class Brotli:
    """`br` (RFC 7932)."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def finished(self) -> bool:
        """Whether the end of the stream has been seen."""
        return bool(self._stream.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to."""
        if self.finished:
            return
        piece = self._stream.process(data, output_buffer_limit=PIECE_BYTES)
        yield piece
        # After a full piece there may be more to come, even if the decoder would take more input.
        while len(piece) >= PIECE_BYTES or not self._stream.can_accept_more_data():
            piece = self._stream.process(b"", output_buffer_limit=PIECE_BYTES)
            yield piece


class Zstd:
    """`zstd` (RFC 8878): one frame or several, with windows of up to 8 MiB."""

    def __init__(self) -> None:
        self._frame = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        self._frames_left = MAX_PARTS

    @property
    def finished(self) -> bool:
        """Whether the last frame is complete."""
        return self._frame.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to."""
        while data and (not self._frame.eof or self._begins_frame(data)):
            yield self._frame.decompress(data, PIECE_BYTES)
            while not (self._frame.needs_input or self._frame.eof):
                yield self._frame.decompress(b"", PIECE_BYTES)
            data = self._frame.unused_data

    def _begins_frame(self, data: bytes) -> bool:
        """Get ready for another frame if that is what `data` is."""
        if not any(data.startswith(start[: len(data)]) for start in _ZSTD_STARTS):
            return False
        self._frames_left -= 1
        if self._frames_left < 0:
            raise zstd.ZstdError("too many frames")
        self._frame = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        return True


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": Gzip,
    "x-gzip": Gzip,
    "deflate": Deflate,
    "br": Brotli,
    "zstd": Zstd,
}


def decoder_for(content_encoding: str) -> Decoder | None:
    """Return a decoder for a `Content-Encoding`, or None for one that is not decoded.

    Only one coding is decoded. No server was asked for two, and twice compressed a bomb becomes
    very small. An unknown coding is often a charset in the wrong header.
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    applied = [coding for coding in codings if coding not in {"", "identity"}]
    if not applied:
        return Identity()
    make = _DECODERS.get(applied[0]) if len(applied) == 1 else None
    return make() if make else None
