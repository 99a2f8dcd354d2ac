"""How a process answers to SIGTERM and SIGINT, where the servers leave that open."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn
from loguru import logger

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """End the process at once, with 0, if it is stopped while it is still starting.

    uvicorn only notes the signal and would wait for a start-up that may take minutes of
    backoff. Nothing is in flight yet.
    """
    if not _runs_under_uvicorn():
        yield
        return
    leave = partial(_leave, asyncio.get_running_loop())
    previous = {number: signal.signal(number, leave) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_with_zero() -> None:
    """Have a process that was stopped by a signal, and has stopped cleanly, exit with 0.

    uvicorn raises the signal once more when it is done, which would end the process by it
    (`Server.capture_signals`). Blocked, it stays pending and the exit code is 0.
    """
    if _runs_under_uvicorn():
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _runs_under_uvicorn() -> bool:
    handler = signal.getsignal(signal.SIGTERM)
    return isinstance(getattr(handler, "__self__", None), uvicorn.Server)


def _leave(loop: asyncio.AbstractEventLoop, number: int, _frame: FrameType | None) -> None:
    logger.info("stopped_while_starting", signal=signal.Signals(number).name)
    # It would report the start-up that is cut off here as failed, with a traceback.
    logging.getLogger("uvicorn.error").disabled = True
    # Raised here it might be caught by whatever runs at this moment; the loop lets it pass.
    loop.call_soon_threadsafe(sys.exit, 0)
