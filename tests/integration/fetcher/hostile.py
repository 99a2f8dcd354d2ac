"""A server that says exactly what it is told to, byte by byte, and counts who calls."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A request as it came in, and what may come after it."""

    target: str
    headers: dict[str, str]
    rest: asyncio.StreamReader

    async def hung_up(self) -> None:
        """Wait until the client has closed the connection."""
        with suppress(ConnectionError):
            await self.rest.read()


Converse = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class HostileServer:
    """Reads each request and leaves the rest to `converse`, then hangs up."""

    def __init__(self, converse: Converse, address: str, *, tls: bool) -> None:
        self._converse = converse
        self._scheme = "https" if tls else "http"
        self._address = address
        self._talks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.requests: list[Request] = []
        self._asked = asyncio.Event()

    def url(self, target: str = "/", host: str | None = None) -> str:
        return f"{self._scheme}://{host or self._address}:{self.port}{target}"

    @property
    def asked_for(self) -> list[str]:
        return [request.target for request in self.requests]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            request = await read_request(reader)
            self.requests.append(request)
            self._asked.set()
            await self._converse(request, writer)
        writer.transport.abort() if writer.is_closing() else writer.close()
        self._talks.discard(talk)

    async def is_asked(self) -> None:
        """Wait for the first request."""
        async with asyncio.timeout(5):
            await self._asked.wait()

    async def end_talks(self) -> None:
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@asynccontextmanager
async def running(
    converse: Converse, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[HostileServer]:
    hostile = HostileServer(converse, address, tls=tls is not None)

    class Counting(asyncio.StreamReaderProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            hostile.connections += 1
            super().connection_made(transport)

    def accept() -> asyncio.StreamReaderProtocol:
        return Counting(asyncio.StreamReader(), hostile.answer)

    server = await asyncio.get_running_loop().create_server(accept, address, port, ssl=tls)
    hostile.port = server.sockets[0].getsockname()[1]
    try:
        yield hostile
    finally:
        server.close()
        await hostile.end_talks()


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    request_line, *lines = head.decode("latin-1").strip().split("\r\n")
    fields = (line.partition(": ") for line in lines)
    headers = {name.lower(): value for name, _, value in fields}
    return Request(request_line.split(" ")[1], headers, reader)


def replying(*answers: bytes) -> Converse:
    """Say `answers` to everyone."""

    async def converse(_: Request, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()

    return converse


def routing(**pages: bytes | Converse) -> Converse:
    """Say what goes with the first part of the path; `/` is `index`, what is not there a 404."""

    async def converse(request: Request, writer: asyncio.StreamWriter) -> None:
        name = request.target.lstrip("/").partition("/")[0].partition("?")[0] or "index"
        page = pages.get(name.replace(".", "_"), response(b"not here", status=b"404 Not Found"))
        await (replying(page) if isinstance(page, bytes) else page)(request, writer)

    return converse


def silent() -> Converse:
    """Say nothing, and hang on."""
    return replying_then_hanging()


def replying_then_hanging(*answers: bytes) -> Converse:
    """Say `answers`, and hang on."""

    async def converse(request: Request, writer: asyncio.StreamWriter) -> None:
        await replying(*answers)(request, writer)
        await asyncio.Event().wait()

    return converse


def repeating(start: bytes, again: bytes, every_seconds: float = 0) -> Converse:
    """Say `start`, and then `again` for ever."""

    async def converse(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(every_seconds)

    return converse


def response(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a complete and honest response."""
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


def redirect(location: str, *headers: bytes, status: bytes = b"302 Found") -> bytes:
    return response(b"elsewhere", b"Location: " + location.encode(), *headers, status=status)


def chunked(body: bytes, *headers: bytes) -> bytes:
    """Return a response in one chunk."""
    head = [b"HTTP/1.1 200 OK", *headers, b"Transfer-Encoding: chunked", b"", b""]
    return b"\r\n".join(head) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
