"""The worker, watched for how long it holds its event loop: `faststream run bench.watched:app`.

The watch begins with SIGCONT, when the benchmark resumes the worker that it has paused. When the
worker stops, it prints the event `event_loop_watched`.
"""

import asyncio
import json
import signal

from app.worker.main import app
from bench.holds import LoopWatch

_watch = LoopWatch()
_tasks = set[asyncio.Task[None]]()


@app.after_startup
async def wait_for_signal() -> None:
    """Begin to watch at SIGCONT."""
    loop = asyncio.get_running_loop()
    # asyncio itself keeps no reference to a task, so it could be garbage-collected.
    loop.add_signal_handler(signal.SIGCONT, lambda: _tasks.add(loop.create_task(_watch.watch())))


@app.on_shutdown
async def tell() -> None:
    """Print the result."""
    event = {"event": "event_loop_watched", "longest_hold_ms": _watch.longest_seconds * 1000}
    print(json.dumps(event), flush=True)  # noqa: T201 (the benchmark reads it)
