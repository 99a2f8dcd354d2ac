"""Asks for many pages by few calls. What the API cannot take at the moment is sent again."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from app.cli.api_client import LONGEST_PAUSE_SECONDS, TRY_AGAIN, ApiClient
from app.cli.showing import Answer

MAX_URLS = 1000
"""How many URLs a batch may have."""

MAX_URL_BYTES = 4 * 1024 * 1024 - 1024
"""How many bytes they may take: a body has 4 MiB at most, and some bytes besides them."""

FIRST_PAUSE_SECONDS = 1.0
"""How long to wait before URLs are sent again, unless the API says so. While it takes none at all,
each pause is twice as long as the one before, up to the longest."""

Settled = dict[int, Answer]
"""The final answers to some URLs, by their numbers in the list of all."""


async def submit_in_batches(
    client: ApiClient, urls: Sequence[str]
) -> AsyncGenerator[Settled, None]:
    """Have pages queued by one call after another, and yield what each call has settled.

    Each URL is sent at least once. One that the API answers 429 or 503 is sent again until the
    client's timeout is over; then that is its answer.
    """
    waiting = deque(range(len(urls)))
    pauses = _Pauses()
    while waiting:
        numbers = _next_batch(waiting, urls)
        answered = await client.submit_batch([urls[number] for number in numbers])
        settled: Settled = {}
        refused: list[int] = []
        for number, (answer, status) in zip(numbers, answered.results, strict=True):
            if status in TRY_AGAIN and not client.gives_up:
                refused.append(number)
            else:
                settled[number] = answer
        yield settled
        waiting.extendleft(reversed(refused))
        if refused:
            await pauses.pause(answered.retry_after, was_any_taken=bool(settled))


class _Pauses:
    """Waits before URLs are sent again."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    async def pause(self, retry_after: float | None, *, was_any_taken: bool) -> None:
        if was_any_taken:
            self._seconds = FIRST_PAUSE_SECONDS
        seconds = self._seconds if retry_after is None else retry_after
        await asyncio.sleep(min(seconds, LONGEST_PAUSE_SECONDS))
        self._seconds *= 2


def _next_batch(waiting: deque[int], urls: Sequence[str]) -> list[int]:
    """Take as many from the beginning as one body may have, and at least one."""
    numbers: list[int] = []
    size = 0
    while waiting and len(numbers) < MAX_URLS:
        size += _bytes_in_body(urls[waiting[0]])
        if numbers and size > MAX_URL_BYTES:
            break
        numbers.append(waiting.popleft())
    return numbers


def _bytes_in_body(url: str) -> int:
    """Return at most how many bytes a URL takes: JSON in UTF-8 is no longer than JSON in ASCII."""
    return len(json.dumps(url)) + len(", ")
