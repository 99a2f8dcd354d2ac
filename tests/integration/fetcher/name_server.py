"""A name server on loopback that answers as the first label of the name says."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME, REFUSED = 0, 2, 3, 5
HEADER_BYTES = 12

FAILURES = {"fails": SERVER_FAILURE, "nowhere": NO_SUCH_NAME, "refused": REFUSED}
ADDRESSES = {
    ("four", A): ["93.184.215.14"],
    ("six", AAAA): ["2606:4700::1111"],
    ("both", A): ["93.184.215.14", "93.184.215.15"],
    ("both", AAAA): ["2606:4700::1111"],
    ("inside", A): ["10.0.0.1"],
}


class NameServer(asyncio.DatagramProtocol):
    """Keeps silent about names that begin with `silent`, and counts the questions."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self._more = asyncio.Event()
        self.address = ""
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        labels, end = read_labels(data)
        self.asked.add(".".join(labels))
        self._more.set()
        if not labels[0].startswith("silent") and self._transport:
            self._transport.sendto(reply(data, labels[0], end), addr)

    async def is_asked_for(self, names: int) -> None:
        """Wait until somebody has asked for so many names."""
        async with asyncio.timeout(10):
            while len(self.asked) < names:
                self._more.clear()
                await self._more.wait()


def read_labels(data: bytes) -> tuple[list[str], int]:
    """Return the labels of the name that is asked for, and where the question ends."""
    labels, at = [], HEADER_BYTES
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return labels, at + 5  # the empty label, type and class


def reply(data: bytes, label: str, end: int) -> bytes:
    kind = int.from_bytes(data[end - 4 : end - 2], "big")
    addresses = ADDRESSES.get((label, kind), [])
    flags = 0x8180 | FAILURES.get(label, NO_ERROR)
    header = data[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
    return header + data[HEADER_BYTES:end] + b"".join(map(record, addresses))


def record(address: str) -> bytes:
    """Return a record of the name in the question, valid for a minute."""
    is_v6 = ":" in address
    packed = socket.inet_pton(socket.AF_INET6 if is_v6 else socket.AF_INET, address)
    name = b"\xc0" + bytes([HEADER_BYTES])  # a pointer to the question
    return name + struct.pack(">HHIH", AAAA if is_v6 else A, 1, 60, len(packed)) + packed


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, ("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
