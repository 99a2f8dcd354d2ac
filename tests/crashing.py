"""A worker that kills its own process at one step of its work: the first times it gets there.

    python -m tests.crashing STEP TIMES FILE run app.worker.main:app --port ...

What follows FILE are the arguments of FastStream's command line. Each kill adds a byte to FILE, by
which the next process knows how often that has happened.
"""

import os
import runpy
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from app.broker.publisher import EventPublisher, RetryPublisher
from app.fetcher.client import HttpFetcher
from app.store.pages import PageRepository
from app.worker import handlers

Step = Callable[..., Awaitable[Any]]

OUTCOMES = ("complete", "note_retry", "fail")

STEPS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "after the claim is written": (PageRepository, ("claim",), "after"),
    "before the fetch": (HttpFetcher, ("fetch",), "before"),
    "after the fetch": (HttpFetcher, ("fetch",), "after"),
    "before the outcome is written": (PageRepository, OUTCOMES, "before"),
    "after the outcome is written": (PageRepository, OUTCOMES, "after"),
    "before the retry is published": (RetryPublisher, ("publish",), "before"),
    "after the retry is published": (RetryPublisher, ("publish",), "after"),
    "before the event is published": (EventPublisher, ("publish",), "before"),
    "after the event is published": (EventPublisher, ("publish",), "after"),
    "before the acknowledgement": (handlers, ("_acknowledge",), "before"),
}
"""Where the functions of each step are, and whether to die before or after they have run."""


def crash_at(step: str, times: int, kills: Path) -> None:
    """Replace the functions of a step by ones that end the process."""
    owner, names, moment = STEPS[step]
    for name in names:
        setattr(owner, name, _crashing(getattr(owner, name), moment, times, kills))


def _crashing(function: Step, moment: str, times: int, kills: Path) -> Step:
    async def run(*arguments: Any, **options: Any) -> Any:
        if moment == "before":
            _die(times, kills)
        result = await function(*arguments, **options)
        if moment == "after":
            _die(times, kills)
        return result

    return run


def _die(times: int, kills: Path) -> None:
    if kills.exists() and kills.stat().st_size >= times:
        return
    with kills.open("ab") as file:
        file.write(b"x")
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    step, times, kills, *arguments = sys.argv[1:]
    crash_at(step, int(times), Path(kills))
    sys.argv = ["faststream", *arguments]
    runpy.run_module("faststream", run_name="__main__")
