"""Tasks that take a step again and again for as long as their process runs."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger


async def repeat(step: Callable[[], Awaitable[object]], *, seconds: float, failure: str) -> None:
    """Take a step after every pause of so many seconds, until cancelled.

    An error that the step does not handle is logged as the event `failure`, and the next step comes
    all the same: if the task ended, nobody would notice what it is there to notice.
    """
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except Exception as exc:  # noqa: BLE001 (see above)
            logger.opt(exception=exc).error(failure)
