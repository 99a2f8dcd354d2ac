"""How a process runs and ends, where the servers leave that open."""

import asyncio
import gc
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

COLLECT_AFTER = (50_000, 20, 20)
"""How many new objects before the garbage collector looks for cycles, where the default is 700:
a message or request makes some hundreds, and nearly all go without it."""


def spare_the_collector() -> None:
    """Have the garbage collector leave alone what start-up has built, and look less often.

    A sixth of the time of a POST went into looking at modules and routes that never change. In
    a process that is not the service's own, as in tests, it is left as it is.
    """
    if _server() is None:
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """End the process at once, with 0, if it is stopped while it is still starting.

    uvicorn only notes the signal and would wait for a start-up that may take minutes of
    backoff. Nothing is in flight yet.
    """
    if _server() is None:
        yield
        return
    leave = partial(_leave, asyncio.get_running_loop())
    previous = {number: signal.signal(number, leave) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_process() -> None:
    """Have a process whose lifespan is over exit: with 0 if it was told to stop, else with 1.

    uvicorn raises the signal it was stopped by once more when it is done, which would end the
    process by it (`Server.capture_signals`). Blocked, it stays pending and the exit code is 0.
    An application that has ended by itself, or could not listen, it would leave to the operator
    to notice.
    """
    server = _server()
    if server is None:
        return
    if server.should_exit:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    else:
        logger.error("ended_by_itself")
        asyncio.get_running_loop().call_soon(sys.exit, 1)


def _server() -> uvicorn.Server | None:
    """Return the server this process runs under, known by its signal handler."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def _leave(loop: asyncio.AbstractEventLoop, number: int, _frame: FrameType | None) -> None:
    logger.info("stopped_while_starting", signal=signal.Signals(number).name)
    # It would report the start-up that is cut off here as failed, with a traceback.
    logging.getLogger("uvicorn.error").disabled = True
    # Raised here it might be caught by whatever runs at this moment; the loop lets it pass.
    loop.call_soon_threadsafe(sys.exit, 0)
