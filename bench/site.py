"""A site that needs next to no CPU: `python -m bench.site PORT`.

`/<milliseconds>/…` is answered after that time with a page of 10 KB, `/<milliseconds>/news/…` with
one of 270 KB, which is the mean of news pages.
"""

import asyncio
import sys
from typing import cast

import uvloop

from bench.extraction import a_page

NEWS_BYTES = 270_000


def _answer(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nSet-Cookie: a=b; Path=/\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
    ) % (len(body), body)


_PAGE = _answer(b"<!doctype html><title>A page</title>" + b"<p>hello world</p>" * 560)
_NEWS = _answer(a_page(NEWS_BYTES).encode()[:NEWS_BYTES])


class _Pages(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        _, milliseconds, rest = data.split(b"/", 2)
        page = _NEWS if rest.startswith(b"news/") else _PAGE
        if int(milliseconds):
            asyncio.get_running_loop().call_later(int(milliseconds) / 1000, self._answer, page)
        else:
            self._answer(page)

    def _answer(self, page: bytes) -> None:
        self._transport.write(page)
        self._transport.close()


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Pages, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
