"""64 callers that send side by side, in tasks or in threads, and their messages a second."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager

from bench.cpu import Rate

CALLERS = 64
WARM_UP_SECONDS = 1.0
SECONDS = 4.0


class Sending:
    """Hands out URLs to the callers: `pages` of them, or for `SECONDS` if it is None.

    A URL counts as sent when its caller asks for the next one. So a caller has to wait for the
    confirm before it asks.
    """

    def __init__(self, site_port: int, pages: int | None) -> None:
        self._site = f"http://127.0.0.1:{site_port}"
        self._numbers = itertools.count() if pages is None else iter(range(pages))
        self._begin = time.perf_counter() + WARM_UP_SECONDS
        self._end = float("inf") if pages is not None else self._begin + SECONDS
        self._sent_at: list[float] = []
        self._cpu_before = time.process_time()

    @property
    def rate(self) -> Rate:
        """Messages a second between the warm-up and the end; only if `pages` is None."""
        in_time = sum(self._begin <= moment <= self._end for moment in self._sent_at)
        cpu_seconds = time.process_time() - self._cpu_before
        return Rate(in_time / SECONDS, cpu_seconds * 1000 / len(self._sent_at))

    async def in_tasks(self, send: Callable[[str], Awaitable[object]]) -> None:
        """Send from tasks."""

        async def call() -> None:
            for url in self._urls():
                await send(url)

        await asyncio.gather(*(call() for _ in range(CALLERS)))

    async def while_connected(
        self,
        connection: AbstractAsyncContextManager[object],
        send: Callable[[str], Awaitable[object]],
    ) -> None:
        """Send from tasks, all of them over one connection."""
        async with connection:
            await self.in_tasks(send)

    def in_threads(self, send: Callable[[str], object]) -> None:
        """Send from threads."""

        def call(_number: int) -> None:
            for url in self._urls():
                send(url)

        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(call, range(CALLERS)))

    def _urls(self) -> Iterator[str]:
        # Threads share the iterator and the list. `next()` and `append()` are atomic in CPython, so
        # neither needs a lock.
        for number in self._numbers:
            yield f"{self._site}/0/{number}"
            now = time.perf_counter()
            self._sent_at.append(now)
            if now > self._end:
                return
