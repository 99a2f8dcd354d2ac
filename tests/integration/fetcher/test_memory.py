import asyncio
import gzip
import os
import sys
from pathlib import Path

import brotli  # type: ignore[import-untyped]  # carries no annotations
import pytest
from backports import zstd

from .conftest import Serve
from .hostile import replying, response

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("peak_memory.py")

# In windows-1252 this byte is the euro sign, so that the text takes twice as much as the bytes.
EUROS = b"\x80" * 5_000_000
BOMB = EUROS * 6


def with_large_window(data: bytes) -> bytes:
    compressor = brotli.Compressor(quality=5, lgwin=24)
    return bytes(compressor.process(data) + compressor.finish())


PAGES = {
    "as it is": response(EUROS, b"Content-Type: text/html"),
    "gzip": response(gzip.compress(BOMB), b"Content-Type: text/html", b"Content-Encoding: gzip"),
    "br": response(with_large_window(BOMB), b"Content-Type: text/html", b"Content-Encoding: br"),
    "zstd": response(zstd.compress(BOMB), b"Content-Type: text/html", b"Content-Encoding: zstd"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
async def test_sixteen_of_the_largest_pages_at_once_leave_room_in_a_worker(
    serve: Serve, page: bytes
) -> None:
    server = await serve(replying(page))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), server.url()),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    # The texts themselves take 160 MB.
    assert int(printed) < 250
