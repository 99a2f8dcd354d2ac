"""What a process does with SIGTERM and SIGINT, and with memory that it no longer needs.

Which code a stop signal reaches depends on how far the process is:

- It starts and connects: `stoppable_at_once()` ends the process on the spot.
- It serves: uvicorn notes the signal, as `called_on_stop()` does, answers what is under way, and
  ends the lifespan, where connections are closed (`app/api/application.py`,
  `app/worker/application.py`).
- uvicorn has shut down and raises the signal once more: `exit_with_zero_when_stopped()`.
"""

import asyncio
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from loguru import logger

_Handler = Callable[[int, FrameType | None], None]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

M_MMAP_THRESHOLD = -3  # in glibc's malloc.h
MMAP_THRESHOLD_BYTES = 131_072  # where glibc starts

COLLECT_AFTER = (50_000, 20, 20)
"""How many new objects before the garbage collector looks for cycles (Python's default: 700).
A message or a request creates some hundreds of objects, and nearly all of them go without it."""


def exit_with_zero_when_stopped() -> None:
    """Have a process that a signal stops in order exit with status 0.

    While uvicorn serves, its own handlers are in place. When it has shut down it restores the
    handlers that it found, and raises the signal again: then these exit.

    Where uvicorn runs already, its handlers stay: a process of `faststream run --workers N`
    imports the application only then. It ends by the signal, which a shell shows as status 143.
    """
    if not _in_event_loop():
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: sys.exit(0))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def stoppable_at_once() -> Iterator[None]:
    """Within the block, have a stop signal end the process at once, with status 0.

    For connecting, which may take minutes of backoff: uvicorn would only note the signal until
    that is over. Nothing is in flight that has to be finished.
    """
    with _handled(dict.fromkeys(STOP_SIGNALS, _exit_at_once)):
        yield


@contextmanager
def _handled(handlers: Mapping[signal.Signals, _Handler]) -> Iterator[None]:
    """Within the block, have signals handled so; then, as they were before."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_at_once(number: int, _frame: FrameType | None) -> None:
    # RuntimeError: the signal came in the middle of the writing of another line.
    with suppress(RuntimeError):
        logger.info("stopped_while_starting", signal=signal.Signals(number).name)
    # An exception would be caught by whatever code runs at this moment, and reported as a failed
    # start. Python's default (SIG_DFL) would not do: the kernel ignores it in a container's first
    # process.
    os._exit(0)


@contextmanager
def called_on_stop(act: Callable[[], None]) -> Iterator[None]:
    """Within the block, have a stop signal also call `act`, in the event loop.

    uvicorn has no such notice: it waits until requests are answered, and only then ends the
    lifespan.
    """
    loop = asyncio.get_running_loop()
    found = {n: handler for n in STOP_SIGNALS if callable(handler := signal.getsignal(n))}

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        found[signal.Signals(number)](number, frame)

    with _handled(dict.fromkeys(found, on_signal)):
        yield


def end_with_failure() -> None:
    """Have the process exit with status 1, because its work ended without a signal.

    uvicorn does not look at a lifespan that fails after its start: the process would live on, and
    answer health checks, but do nothing.
    """
    logger.error("ended_by_itself")
    asyncio.get_running_loop().call_soon(sys.exit, 1)


def spare_the_collector() -> None:
    """Have the garbage collector ignore what has been imported and built, and look less often.

    It spent a sixth of the time of a POST on modules, models and routes that never change.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def give_memory_back() -> None:
    """Have glibc give large blocks of memory back to the system as soon as they are freed.

    glibc gives back at once only blocks above a threshold, and raises the threshold to the largest
    block freed. So after a page of 5 MB it keeps the memory of all smaller ones: a third of a
    worker's peak. A threshold that was set (mallopt(3), `M_MMAP_THRESHOLD`) stays fixed. Other C
    libraries do not need it.
    """
    with suppress(AttributeError, TypeError):  # another C library, or another way to load it
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
