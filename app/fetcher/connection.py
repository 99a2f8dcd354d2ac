"""A connection to the host of a URL: its name resolved, its addresses checked, dialled, TLS.

A name is resolved once, every address it resolves to is checked, and only checked addresses are
dialled. A name that resolves differently the second time gains nothing that way. The `Host`
header and the server name of TLS stay those of the URL.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest

import httpx

from app.fetcher.guard import Guard, literal_address
from app.fetcher.redirects import host_of
from app.fetcher.resolver import Resolve
from app.urls import DEFAULT_PORTS

_MAX_DIALLED = 6


@dataclass(frozen=True, slots=True)
class Connection:
    """What is received and sent, and the address that was dialled."""

    address: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Connector:
    """Opens connections, each for one request.

    Every name resolution, every dialling and every TLS handshake may take `timeout_seconds`.
    """

    def __init__(
        self, guard: Guard, resolve: Resolve, ssl_context: ssl.SSLContext, timeout_seconds: float
    ) -> None:
        self._guard = guard
        self._resolve = resolve
        self._ssl_context = ssl_context
        self._timeout_seconds = timeout_seconds
        ssl_context.set_alpn_protocols(["http/1.1"])

    @asynccontextmanager
    async def connection(self, url: httpx.URL) -> AsyncIterator[Connection]:
        """Connect to the host of `url`; when the block ends, the connection is dropped.

        Raises `FetchError` if an address is refused, `socket.gaierror`, `ssl.SSLError`,
        `TimeoutError` and `OSError`.
        """
        host, port = host_of(url), url.port or DEFAULT_PORTS[url.scheme]
        addresses = await self._addresses(host)
        self._guard.check(addresses, port)
        connection = await self._dial(alternating(addresses)[:_MAX_DIALLED], port)
        try:
            if url.scheme == "https":
                await self._start_tls(connection.writer, host)
            yield connection
        finally:
            # close() would wait until a slow server has taken everything.
            connection.writer.transport.abort()

    async def _addresses(self, host: str) -> Sequence[str]:
        if address := literal_address(host):
            return [address]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._resolve(host)
        except TimeoutError as exc:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from exc

    async def _dial(self, addresses: Iterable[str], port: int) -> Connection:
        """Connect to the first of `addresses` that accepts; else raise the error of the last."""
        failure = OSError("there is no address to connect to")
        for address in addresses:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return Connection(address, *await asyncio.open_connection(address, port))
            except OSError as exc:  # a TimeoutError is one as well
                failure = exc
        raise failure

    async def _start_tls(self, writer: asyncio.StreamWriter, host: str) -> None:
        async with asyncio.timeout(self._timeout_seconds):
            await writer.start_tls(self._ssl_context, server_hostname=host.rstrip("."))


def alternating(addresses: Sequence[str]) -> list[str]:
    """Return the addresses with IPv6 and IPv4 taking turns (RFC 8305, section 4).

    Where one family does not work, the other one is tried second, not last.
    """
    families: dict[bool, list[str]] = {}
    for address in addresses:
        families.setdefault(":" in address, []).append(address)
    pairs = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in pairs if address is not None]
