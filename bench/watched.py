"""The worker, watched for how long it holds its event loop: `faststream run bench.watched:app`.

Whatever holds the loop keeps all other pages waiting, and the answers to probes. When the worker
stops, it prints the event `event_loop_watched`.
"""

import asyncio
import json
import time

from app.worker.main import app

BEAT_SECONDS = 0.001


class Watch:
    """Wakes up every millisecond, and notes by how much the loop was late at most."""

    def __init__(self) -> None:
        self.longest_hold = 0.0

    def begin(self) -> None:
        """Begin to watch the running loop."""
        self._task = asyncio.create_task(self._beat())  # kept, or it may be garbage-collected

    async def _beat(self) -> None:
        while True:
            wall, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(BEAT_SECONDS)
            late = time.perf_counter() - wall - BEAT_SECONDS
            # If the process used less CPU than it was late, the machine ran other processes.
            self.longest_hold = max(self.longest_hold, min(late, time.process_time() - cpu))


watch = Watch()


@app.after_startup
async def begin() -> None:
    """Begin to watch."""
    watch.begin()


@app.on_shutdown
async def tell() -> None:
    """Print the result."""
    event = {"event": "event_loop_watched", "longest_hold_ms": watch.longest_hold * 1000}
    print(json.dumps(event), flush=True)  # noqa: T201 (the benchmark reads it)
