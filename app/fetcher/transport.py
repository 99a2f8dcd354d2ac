"""One request over one connection, and its answer: HTTP/1.1 as far as a fetcher needs it.

There is no pool: keeping connections would cost more than it saves where most hosts are asked
once, and one page's connection would serve another page's request.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import httpx

from app.fetcher.connection import Connector
from app.fetcher.framing import read_framed
from app.fetcher.head import ResponseHead, read_head

RequestHeaders = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer whose head has been read; `body` can be read once, and is still coded.

    `remote_address` is the address that was dialled, without its port.
    """

    head: ResponseHead
    body: AsyncIterator[bytes]
    remote_address: str


class Transport:
    """Sends GET requests, each with `headers`."""

    def __init__(self, connector: Connector, headers: RequestHeaders) -> None:
        self._connector = connector
        self._headers = tuple(headers)

    @asynccontextmanager
    async def get(
        self, url: httpx.URL, headers: RequestHeaders = (), *, begins: bool = True
    ) -> AsyncIterator[Response]:
        """Ask for `url` with some more `headers`; the body can be read until the block ends.

        `begins` is as in `Connector.connection`.

        Raises what `Connector.connection` raises, `FetchError` for an answer that is not valid
        and `ConnectionResetError` for one that is cut.
        """
        async with self._connector.connection(url, begins=begins) as connection:
            # Not drained: a server may answer and hang up before it has read the whole request,
            # and drain() would raise where there is an answer to be read.
            connection.writer.write(_request(url, (*self._headers, *headers)))
            head = await read_head(connection.reader)
            async with aclosing(read_framed(connection.reader, head)) as body:
                yield Response(head, body, connection.address)


def _request(url: httpx.URL, headers: RequestHeaders) -> bytes:
    """Return a request; latin-1 turns header values back into the bytes they were read from.

    `httpx.URL` has percent-encoded what does not belong into a request line.
    """
    lines = [
        b"GET %b HTTP/1.1" % url.raw_path,
        b"Host: %b" % url.netloc,
        *(f"{name}: {value}".encode("latin-1") for name, value in headers),
    ]
    return b"\r\n".join([*lines, b"", b""])
