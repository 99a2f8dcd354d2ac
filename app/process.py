"""How a process answers to SIGTERM and SIGINT, where the servers leave that open."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

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
    previous = {number: signal.signal(number, _leave) for number in STOP_SIGNALS}
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


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    logger.info("stopped_while_starting", signal=signal.Signals(number).name)
    # It would report the start-up that is cut off here as failed, with a traceback.
    logging.getLogger("uvicorn.error").disabled = True
    raise SystemExit(0)
