"""How long one page may take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter


class TimeBudget:
    """A number of seconds that runs down only while `running()`, so that waiting is free."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.used_seconds = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run under what is left of the budget; raises `TimeoutError` when it is used up."""
        started = perf_counter()
        try:
            async with asyncio.timeout(self._seconds - self.used_seconds):
                yield
        finally:
            self.used_seconds += perf_counter() - started
