"""Benchmarks of workers, relative to a bare httpx loop and to a single worker."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.report import Reading
from bench.setup import CONCURRENCY, Setup
from dev.stack import ROOT, Worker, running

PAGES = 2000
SLOW_PAGES, SLOW_CONCURRENCY = 2000, 200
WAITING_PAGES, WAITING_MS = 400, 250


def collecting(setup: Setup) -> Iterator[Reading]:
    """Measure how many pages a second go from the queue into records."""
    loop = [sys.executable, "-m", "bench.bare", *map(str, (setup.site_port, PAGES, CONCURRENCY))]
    bare = subprocess.run(loop, cwd=ROOT, capture_output=True, check=True)
    prefix = setup.queue_pages(PAGES)
    with running(setup.worker()):
        ours = PAGES / setup.seconds_to_collect(prefix, PAGES)
    yield Reading("worker", ours, float(bare.stdout))


def collecting_slow_pages(setup: Setup) -> Iterator[Reading]:
    """Measure pages that take a second each, many at once, and the memory for that."""
    prefix = setup.queue_pages(SLOW_PAGES, delay_ms=1000)
    worker = setup.worker(WORKER_CONCURRENCY=str(SLOW_CONCURRENCY))
    with running(worker):
        seconds = setup.seconds_to_collect(prefix, SLOW_PAGES)
        yield Reading("slow pages", SLOW_PAGES / seconds)
        yield Reading("slow pages: memory", _peak_mib(worker))


def scaling(setup: Setup) -> Iterator[Reading]:
    """Measure two workers relative to one, on pages for which a worker mostly waits."""
    one, two = (_collect_with(setup, workers) for workers in (1, 2))
    yield Reading("two workers", two, one)


def _collect_with(setup: Setup, workers: int) -> float:
    pages = WAITING_PAGES * workers
    with ExitStack() as stack:
        # All workers are ready before the first page is queued, so that none has a head start.
        for number in range(workers):
            stack.enter_context(running(setup.worker(f"worker-{number}")))
        prefix = setup.queue_pages(pages, delay_ms=WAITING_MS)
        return pages / setup.seconds_to_collect(prefix, pages)


def _peak_mib(worker: Worker) -> float:
    status = Path(f"/proc/{worker.pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak) / 1024
