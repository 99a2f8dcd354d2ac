"""A TCP or TLS connection as httpcore wants it, on asyncio's own streams."""

# ruff: noqa: ARG002, ASYNC109 - httpcore decides what its backends and streams are called with

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpcore

from app.fetcher.head import ResponseHead, read_head
from app.models import Header


class SocketStream(httpcore.AsyncNetworkStream):
    """One connection, for one request.

    The head of the response passes through `head.py` on its way, which bounds it and keeps it
    as sent. `at_end` tells that the server has closed its side.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head: ResponseHead | None = None
        self.at_end = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return some bytes of the response, or none at its end; `timeout` is not used."""
        if self._head is None:
            self._head = await read_head(self._reader)
            return self._head.for_parser()
        received = await self._reader.read(max_bytes)
        self.at_end = not received
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`; `timeout` is not used."""
        # A server may answer and hang up before it has read everything: see what it said.
        with suppress(ConnectionError):
            self._writer.write(buffer)
            await self._writer.drain()

    async def aclose(self) -> None:
        """Drop the connection, without the farewells a slow server could draw out."""
        self._writer.transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Go on over TLS; the handshake may take `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except BaseException:
            await self.aclose()
            raise
        return self

    @property
    def headers(self) -> tuple[Header, ...]:
        """The headers of the response, as sent."""
        return self._head.headers if self._head else ()

    @property
    def remote_address(self) -> str | None:
        """The address dialled, without its port."""
        peer = self._writer.get_extra_info("peername")
        return str(peer[0]) if peer else None

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: `ssl_object` and `server_addr` among others."""
        names = {"ssl_object": "ssl_object", "server_addr": "peername", "client_addr": "sockname"}
        return self._writer.get_extra_info(names.get(info, info))


async def dial(addresses: Iterable[str], port: int, timeout: float | None) -> SocketStream:
    """Connect to the first of `addresses` that takes the call, each within `timeout` seconds.

    Raises the `OSError` of the last one if none does.
    """
    failure = OSError("there is no address to connect to")
    for address in addresses:
        try:
            return await _connect(address, port, timeout)
        except OSError as exc:  # TimeoutError is one as well
            failure = exc
    raise failure


async def _connect(address: str, port: int, timeout: float | None) -> SocketStream:
    async with asyncio.timeout(timeout):
        return SocketStream(*await asyncio.open_connection(address, port))
