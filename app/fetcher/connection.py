"""A connection to the host of a URL: its name resolved, its addresses checked, dialled, TLS.

A name is resolved once, every address it resolves to is checked, and only checked addresses are
dialled. A name that resolves differently the second time gains nothing that way. The `Host`
header and the server name of TLS stay those of the URL.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, zip_longest

import httpx
from loguru import logger

from app.errors import HostBusy
from app.fetcher.guard import Guard, blocked, literal_address
from app.fetcher.hosts import HostPace, HostTurns
from app.fetcher.redirects import sent_host_of
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

    Every name resolution, every dialling and every TLS handshake may take `timeout_seconds`. No
    name gets more than `per_host` connections at once, nor does any address: a wildcard domain
    has more names than anybody can count. No more than `per_minute` fetches begin at a name in a
    minute.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own, and named by the caller
        self,
        guard: Guard,
        resolve: Resolve,
        ssl_context: ssl.SSLContext,
        *,
        timeout_seconds: float,
        per_host: int,
        per_minute: int = 0,
    ) -> None:
        self._guard = guard
        self._resolve = resolve
        self._ssl_context = ssl_context
        self._timeout_seconds = timeout_seconds
        self._turns_by_name = HostTurns(per_host)
        self._turns_by_address = HostTurns(per_host)
        self._pace = HostPace(per_minute)
        ssl_context.set_alpn_protocols(["http/1.1"])

    @asynccontextmanager
    async def connection(self, url: httpx.URL, *, begins: bool = True) -> AsyncIterator[Connection]:
        """Connect to the host of `url`; when the block ends, the connection is dropped.

        `begins`: a fetch begins at this host. Raises `HostBusy`, `FetchError` if an address is
        refused, `socket.gaierror`, `ssl.SSLError`, `TimeoutError` and `OSError`.
        """
        host = sent_host_of(url)
        port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        name = host.rstrip(".")
        async with self._turns_by_name.turn(name):
            addresses = await self._checked_addresses(host)
            self._guard.check_port(addresses, port)
            begin = cache(partial(self._pace.begin, name)) if begins else _begin_nothing
            async with AsyncExitStack() as stack:
                connection = await self._dial(addresses, port, begin, stack)
                if url.scheme == "https":
                    await self._start_tls(connection.writer, host)
                yield connection

    async def _checked_addresses(self, host: str) -> Sequence[str]:
        """Return the addresses of `host`, all of which may be reached.

        A name that leads inside fails like a name that does not exist, so that nobody can find
        out from here which names there are inside. The log alone tells the two apart.
        """
        literal = literal_address(host)
        addresses = [literal] if literal else await self._resolved(host)
        if refused := self._guard.refused(addresses):
            logger.warning("fetch_address_refused", host=host, addresses=refused)
            if literal:
                raise blocked("the host is not on the public Internet")
            raise socket.gaierror(socket.EAI_NONAME, "the name leads to a refused address")
        return addresses

    async def _resolved(self, host: str) -> Sequence[str]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._resolve(host)
        except TimeoutError as exc:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from exc

    async def _dial(
        self, addresses: Sequence[str], port: int, begin: Callable[[], None], stack: AsyncExitStack
    ) -> Connection:
        """Connect to the first of `addresses` that accepts; else raise the error of the last."""
        failure: Exception = OSError("there is no address to connect to")
        for address in alternating(addresses)[:_MAX_DIALLED]:
            try:
                return await stack.enter_async_context(self._dialled(address, port, begin))
            except (OSError, HostBusy) as exc:  # a TimeoutError is an OSError as well
                failure = exc
        raise failure

    @asynccontextmanager
    async def _dialled(
        self, address: str, port: int, begin: Callable[[], None]
    ) -> AsyncIterator[Connection]:
        async with self._turns_by_address.turn(address):
            # Not before the turn: who waits for one in vain has not asked anything of the host.
            begin()
            async with asyncio.timeout(self._timeout_seconds):
                reader, writer = await asyncio.open_connection(address, port)
            try:
                yield Connection(address, reader, writer)
            finally:
                # close() would wait until a slow server has taken everything.
                writer.transport.abort()

    async def _start_tls(self, writer: asyncio.StreamWriter, host: str) -> None:
        async with asyncio.timeout(self._timeout_seconds):
            await writer.start_tls(self._ssl_context, server_hostname=host.rstrip("."))


def _begin_nothing() -> None:
    """Count no fetch."""


def alternating(addresses: Sequence[str]) -> list[str]:
    """Return the addresses with IPv6 and IPv4 taking turns (RFC 8305, section 4).

    Where one family does not work, the other one is tried second, not last.
    """
    families: dict[bool, list[str]] = {}
    for address in addresses:
        families.setdefault(":" in address, []).append(address)
    pairs = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in pairs if address is not None]
