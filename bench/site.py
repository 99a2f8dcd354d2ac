"""A site that needs next to no CPU: `python -m bench.site PORT`.

`/<milliseconds>/…` is answered after that time, always with the same page.
"""

import asyncio
import sys
from typing import cast

import uvloop

_BODY = b"<!doctype html><title>A page</title>" + b"<p>hello world</p>" * 560
_PAGE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nSet-Cookie: a=b; Path=/\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_BODY), _BODY)


class _Pages(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        milliseconds = int(data.split(b"/", 2)[1])
        if milliseconds:
            asyncio.get_running_loop().call_later(milliseconds / 1000, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._transport.write(_PAGE)
        self._transport.close()


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Pages, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
