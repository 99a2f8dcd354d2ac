"""How the content codings are applied, good and bad."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import brotli  # type: ignore[import-untyped]  # carries no annotations
from backports import zstd


def deflated(data: bytes) -> bytes:
    return zlib.compress(data)


def bare_deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def brotlied(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=5))


def zstded(data: bytes) -> bytes:
    return zstd.compress(data)


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", deflated),
    "bare deflate": ("deflate", bare_deflated),
    "br": ("br", brotlied),
    "zstd": ("zstd", zstded),
}


async def in_chunks(data: bytes, size: int = 16_384) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
