"""Batches database operations that arrive while another one is under way.

The first call is sent at once, alone. Calls that arrive before its answer are collected, and sent
together as soon as the answer is there. There is no timer: an idle process has the latency of a
single operation, and a busy one sends a few large operations instead of many small ones.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Calls `run` with batches of up to `most` items, one batch at a time.

    `run` returns one answer for each item, in order. An answer that is an exception is raised to
    the caller of its item, and an exception of `run` itself to every caller of the batch. A caller
    that has waited `timeout_seconds` gets `TimeoutError`, even if its item was never sent.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | BaseException]]],
        *,
        timeout_seconds: float,
        most: int = 500,
    ) -> None:
        self._run = run
        self._timeout_seconds = timeout_seconds
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Answer:
        """Return the answer to one item."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        async with asyncio.timeout(self._timeout_seconds):
            return await answer

    async def _work(self) -> None:
        try:
            # Items whose callers have given up are dropped here: nobody would read the answer.
            while waiting := [
                (item, future) for item, future in self._waiting if not future.done()
            ]:
                batch, self._waiting = waiting[: self._most], waiting[self._most :]
                await self._settle(batch)
        finally:
            self._worker = None

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | BaseException]
        try:
            answers = await self._run([item for item, _ in batch])
        except Exception as exc:  # noqa: BLE001 (it is raised again, to each caller)
            answers = [exc] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            # The caller has given up, or was cancelled, while the batch was under way.
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
