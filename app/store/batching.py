"""Many small operations as a few large ones, without waiting for more to come.

The first call goes out at once, on its own. Those that arrive while it is under way are gathered
and go out together when it is back, and so on: nobody waits on a timer, an idle service has its
usual latency, and a busy one pays by the batch. What nobody waits for any more is not sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Calls `run` with lists of up to `most` items, one list at a time.

    It returns their answers in order; one that is an exception is raised to its caller. An
    exception of `run` itself is raised to every caller of its batch, and `TimeoutError` to those
    who have waited `timeout_seconds`, whatever is before them.
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
        except Exception as exc:  # noqa: BLE001 (it is raised again, to those who asked)
            answers = [exc] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            # A caller that has gone meanwhile is not told any more.
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
