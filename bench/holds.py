"""How long an event loop is held at most: meanwhile no other page and no probe gets a turn."""

import asyncio
import os
import time

BEAT_SECONDS = 0.001


class LoopWatch:
    """Wakes up every millisecond, and notes in `longest_seconds` by how much it was late at most.

    Time in which the thread could have run, but the machine ran others, does not count. The kernel
    tells it in a file. To read that, the thread gives up the interpreter's lock and may have to
    wait 5 ms for it, so no reading is between the two looks at the clock.
    """

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def watch(self) -> None:
        """Watch the running loop until the task is cancelled."""
        statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        try:
            while True:
                self.longest_seconds = max(self.longest_seconds, await _seconds_late(statistics))
        finally:
            os.close(statistics)


async def _seconds_late(statistics: int) -> float:
    waited = _seconds_without_a_core(statistics)
    before = time.perf_counter()
    await asyncio.sleep(BEAT_SECONDS)
    elapsed = time.perf_counter() - before
    waited = _seconds_without_a_core(statistics) - waited
    return elapsed - BEAT_SECONDS - waited


def _seconds_without_a_core(statistics: int) -> float:
    """Return how long the thread has waited for a core. See the kernel's sched-stats.rst."""
    return int(os.pread(statistics, 100, 0).split()[1]) / 1e9
