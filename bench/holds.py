"""How long an event loop is held at most: meanwhile no other page and no probe gets a turn."""

import asyncio
import time
from pathlib import Path

BEAT_SECONDS = 0.001


class LoopWatch:
    """Wakes up every millisecond, and notes in `longest_seconds` by how much it was late at most.

    Time in which the thread could have run, but the machine ran others, does not count.
    """

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def watch(self) -> None:
        """Watch the running loop until the task is cancelled."""
        while True:
            before = time.perf_counter() - _seconds_without_a_core()
            await asyncio.sleep(BEAT_SECONDS)
            elapsed = time.perf_counter() - _seconds_without_a_core() - before
            self.longest_seconds = max(self.longest_seconds, elapsed - BEAT_SECONDS)


def _seconds_without_a_core() -> float:
    """Return how long this thread has waited for a core. See the kernel's sched-stats.rst."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
