"""How many pages a worker fetches at once, and how one page gets the worker to itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """`number` slots, given out first come, first served.

    `all()` waits until every slot is free and holds them together. Whoever asks after it waits
    behind it, so that it gets its turn on a busy worker too.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._free = asyncio.Semaphore(number)
        self._turnstile = asyncio.Lock()

    @property
    def are_taken(self) -> bool:
        """Whether every slot is taken."""
        return self._free.locked()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold one slot."""
        async with self._taken(1):
            yield

    @asynccontextmanager
    async def all(self) -> AsyncIterator[None]:
        """Hold every slot: nothing else is fetched meanwhile."""
        async with self._taken(self._number):
            yield

    @asynccontextmanager
    async def _taken(self, wanted: int) -> AsyncIterator[None]:
        taken = 0
        try:
            async with self._turnstile:
                while taken < wanted:
                    await self._free.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                self._free.release()
