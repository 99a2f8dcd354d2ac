"""How many connections one host gets at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import HostBusy

PATIENCE_SECONDS = 2.0


class _Places:
    def __init__(self, number: int) -> None:
        self.semaphore = asyncio.Semaphore(number)
        self.users = 0


class HostTurns:
    """At most `limit` turns at once for each host, first come first served; 0 is no limit.

    Who has waited for `patience_seconds` is sent away, to make room for pages of other hosts.
    A host is forgotten with its last turn.
    """

    def __init__(self, limit: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._limit = limit
        self._patience_seconds = patience_seconds
        self._places: dict[str, _Places] = {}

    def __len__(self) -> int:
        """Return how many hosts are kept in mind."""
        return len(self._places)

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Wait until there is a place at `host`, and hold it. Raises `HostBusy`."""
        if not self._limit:
            yield
            return
        places = self._places.setdefault(host, _Places(self._limit))
        places.users += 1
        try:
            await self._wait(places.semaphore, host)
            try:
                yield
            finally:
                places.semaphore.release()
        finally:
            places.users -= 1
            if not places.users:
                del self._places[host]

    async def _wait(self, semaphore: asyncio.Semaphore, host: str) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await semaphore.acquire()
        except TimeoutError:
            raise HostBusy(f"all {self._limit} connections to {host} are in use") from None
