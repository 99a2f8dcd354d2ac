"""Benchmarks of workers, relative to a bare httpx loop and to a single worker."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import bare
from bench.report import Reading
from bench.setup import CONCURRENCY, EXTRACTING, ON_PYMONGO, TELLING, Setup
from dev.stack import Worker, running

PAGES = 2000
NEWS_PAGES = 1000
SLOW_PAGES, SLOW_CONCURRENCY = 2000, 200
WAITING_PAGES, WAITING_MS = 400, 250


class WatchedWorker(Worker):
    """A worker that tells when it stops how long it held its event loop."""

    def _command(self) -> list[str]:
        return [
            "bench.watched:app" if argument == "app.worker.main:app" else argument
            for argument in super()._command()
        ]


@dataclass(frozen=True, slots=True)
class Collected:
    """Pages a second, and the CPU time of one page in milliseconds, by process."""

    per_second: float
    cpu: Mapping[str, float]


HOLD_ON_PYMONGO = "pages of 270 KB, DATABASE_DRIVER=pymongo: longest hold"

ALSO = {
    "worker, documents filled": EXTRACTING,
    "worker, events published": TELLING,
    "worker, DATABASE_DRIVER=pymongo": ON_PYMONGO,
}
"""What else a worker may be set to do: rows, and their settings.

They have no targets. Their baseline is the worker with the settings of the benchmark.
"""


def collecting(setup: Setup) -> Iterator[Reading]:
    """Measure how many pages a second go from the queue into records."""
    loop = bare.measure(setup.ground.site_port, pages=PAGES, concurrency=CONCURRENCY)
    with _collected(setup, [setup.worker()], PAGES) as ours:
        cpu = {**ours.cpu, "bare loop": loop.cpu_ms}
        yield Reading("worker", ours.per_second, loop.per_second, cpu)
        yield Reading("worker: CPU of a page", ours.cpu["worker"])
    for row, settings in ALSO.items():
        with _collected(setup, [setup.worker(**settings)], PAGES) as more:
            yield Reading(row, more.per_second, ours.per_second, more.cpu)


def collecting_news(setup: Setup) -> Iterator[Reading]:
    """Measure pages of 270 KB: what reading them costs, and how long one keeps all others waiting.

    The baseline is a worker that does not read what the pages say. Neither is watched, because that
    costs the more CPU the longer a worker takes.
    """
    with _collected(setup, [setup.worker()], NEWS_PAGES, folder="news/") as without:
        baseline = without.cpu["worker"]
    with _collected(setup, [setup.worker(**EXTRACTING)], NEWS_PAGES, folder="news/") as ours:
        yield Reading("pages of 270 KB: CPU of a page", ours.cpu["worker"], baseline, ours.cpu)
    yield Reading("pages of 270 KB: longest hold", _longest_hold_ms(setup, EXTRACTING))
    yield Reading(HOLD_ON_PYMONGO, _longest_hold_ms(setup, EXTRACTING | ON_PYMONGO))


def _longest_hold_ms(setup: Setup, settings: Mapping[str, str]) -> float:
    environment = {**setup.environment, **settings}
    worker = WatchedWorker(setup.ground.folder, name="watched", environment=environment)
    with _collected(setup, [worker], NEWS_PAGES, folder="news/"):
        pass
    (watched,) = worker.events("event_loop_watched")  # it is printed when the worker stops
    return float(watched["longest_hold_ms"])


def collecting_slow_pages(setup: Setup) -> Iterator[Reading]:
    """Measure pages that take a second each, many at once, and the memory for that."""
    worker = setup.worker(WORKER_CONCURRENCY=str(SLOW_CONCURRENCY))
    with _collected(setup, [worker], SLOW_PAGES, delay_ms=1000) as ours:
        yield Reading("slow pages", ours.per_second, cpu=ours.cpu)
        yield Reading("slow pages: memory", _peak_mib(worker))


def scaling(setup: Setup) -> Iterator[Reading]:
    """Measure two workers relative to one, on pages for which a worker mostly waits."""
    one, two = (_collected_by(setup, number) for number in (1, 2))
    yield Reading("two workers", two.per_second, one.per_second, two.cpu)


def _collected_by(setup: Setup, number: int) -> Collected:
    workers = [setup.worker(f"worker-{which}") for which in range(number)]
    pages = WAITING_PAGES * number
    with _collected(setup, workers, pages, delay_ms=WAITING_MS) as collected:
        return collected


@contextmanager
def _collected(
    setup: Setup, workers: Sequence[Worker], pages: int, **which: Any
) -> Iterator[Collected]:
    """Have workers collect as many pages of this kind, and keep them running in the block.

    While the queue is filled they are paused. So their start costs nothing, and none has a lead.
    """
    with running(*workers):
        for worker in workers:
            worker.pause()
        prefix = setup.queue_pages(pages, **which)
        with setup.cpu_of(worker=workers) as cpu:
            for worker in workers:
                worker.resume()
            setup.wait_until_collected(prefix, pages)
        yield Collected(pages / setup.seconds_to_collect(prefix), cpu.ms_each(pages))


def _peak_mib(worker: Worker) -> float:
    status = Path(f"/proc/{worker.pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak) / 1024
