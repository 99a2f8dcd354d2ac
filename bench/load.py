"""A load generator that needs little CPU: it keeps connections and sends requests as bytes."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

WARM_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """Sorted `latencies` in seconds of the answers as wanted, and how many were otherwise.

    `answered` counts all, those of the warm-up too.
    """

    seconds: float
    latencies: list[float]
    failures: int
    answered: int

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def median(self) -> float:
        """The median latency in seconds."""
        return self.percentile(0.5)

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that this share of the answers did not exceed."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)]


def post(port: int, bodies: Iterator[bytes]) -> Iterator[bytes]:
    """Yield POST requests, one for each body."""
    head = (
        f"POST /metadata HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    )
    for body in bodies:
        yield f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(port: int, target: str, *headers: str) -> Iterator[bytes]:
    """Yield the same GET request for ever."""
    lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers]
    request = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
    while True:
        yield request


async def load(  # noqa: PLR0913 (the caller names each of them)
    port: int,
    requests: Iterator[bytes],
    *,
    wanted: int,
    connections: int,
    seconds: float,
    rate: float | None = None,
) -> Result:
    """Send requests over `connections`, at `rate` a second or as fast as they are answered.

    With a rate, the latency of a request counts from the moment it was due, not from when it
    could be sent. So a server that stalls is charged for the requests that had to wait.
    """
    run = _Run(port, requests, wanted, rate)
    begin = time.perf_counter() + WARM_UP_SECONDS
    await asyncio.gather(*(run.connection(begin, begin + seconds) for _ in range(connections)))
    return Result(seconds, sorted(run.latencies), run.failures, run.answered)


class _Run:
    def __init__(
        self, port: int, requests: Iterator[bytes], wanted: int, rate: float | None
    ) -> None:
        self.latencies: list[float] = []
        self.failures = 0
        self.answered = 0
        self._port = port
        self._requests = requests
        self._wanted = f"HTTP/1.1 {wanted}".encode()
        self._rate = rate
        self._sent = 0
        self._began = time.perf_counter()

    async def connection(self, begin: float, end: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        while (due := await self._next_turn()) < end:
            writer.write(next(self._requests))
            status = await _read_answer(reader)
            self.answered += 1
            if due >= begin:
                self._count(status, time.perf_counter() - due)
        writer.close()

    async def _next_turn(self) -> float:
        if self._rate is None:
            return time.perf_counter()
        due = self._began + self._sent / self._rate
        self._sent += 1
        await asyncio.sleep(due - time.perf_counter())
        return due

    def _count(self, status: bytes, latency: float) -> None:
        if status.startswith(self._wanted):
            self.latencies.append(latency)
        else:
            self.failures += 1


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))  # 304 has no body, and no length
    return head
