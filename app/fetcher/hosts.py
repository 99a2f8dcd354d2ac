"""How many connections one host gets at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Places:
    def __init__(self, number: int) -> None:
        self.semaphore = asyncio.Semaphore(number)
        self.users = 0


class HostTurns:
    """At most `limit` turns at once for each host, first come first served; 0 is no limit.

    A host is forgotten with its last turn.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[str, _Places] = {}

    def __len__(self) -> int:
        """Return how many hosts are kept in mind."""
        return len(self._places)

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Wait, for as long as it takes, until there is a place at `host`, and hold it."""
        if not self._limit:
            yield
            return
        places = self._places.setdefault(host, _Places(self._limit))
        places.users += 1
        try:
            async with places.semaphore:
                yield
        finally:
            places.users -= 1
            if not places.users:
                del self._places[host]
