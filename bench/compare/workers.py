"""How many pages a second go from a filled queue into stored records."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench import bare
from bench.compare.arena import COMPLETED, Place, place_in
from bench.compare.programs import Program
from bench.cpu import CpuTime, Rate
from bench.ground import Ground
from bench.setup import CONCURRENCY, SETTINGS

PAGES = 2000

OURS = ("faststream", "run", "app.worker.main:app", "--host", "127.0.0.1", "--port", "{port}")
CELERY = ("celery", "--app", "bench.compare.on_celery", "worker", "--loglevel", "WARNING")
DRAMATIQ = ("dramatiq", "bench.compare.on_dramatiq", "--processes", "1")
TASKIQ = ("taskiq", "worker", "bench.compare.on_taskiq:broker", "--workers", "1")
SCRAPY = ("bench.compare.on_scrapy", "{site}", "{pages}")

BARE = "bare httpx loop"
ONE_AT_A_TIME = "ours, one page at a time"


@dataclass(frozen=True, slots=True)
class Worker:
    """Worker processes: how to start one, and the module that fills its queue.

    In `arguments`, {port} stands for a free port, {site} for the port of the site and {pages} for
    the number of pages. `sender` is None for a contestant without a queue.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    sender: str | None = None
    processes: int = 1

    def measure(self, ground: Ground) -> Rate:
        """Have it collect the pages.

        The clock starts with the first record, so the start of the process does not count.
        """
        with place_in(ground) as place, ExitStack() as stack:
            environment = self.environment | place.environment
            if self.sender:
                fill = ("bench.compare.send", self.sender, str(ground.site_port), str(PAGES))
                with Program(place.folder, fill, environment=environment) as program:
                    program.wait_for_event("sent", deadline=60)
            arguments = [each.format(**_values(ground)) for each in self.arguments]
            programs = [
                Program(place.folder, arguments, name=f"worker-{number}", environment=environment)
                for number in range(self.processes)
            ]
            for program in programs:
                stack.enter_context(program)
            return _rate(programs, place)


def _values(ground: Ground) -> dict[str, object]:
    # A program chooses its port itself.
    return {"port": "{port}", "site": ground.site_port, "pages": PAGES}


def _rate(programs: list[Program], place: Place) -> Rate:
    def completed() -> int:
        count: int = place.pages.count_documents({"status": COMPLETED})
        return count

    def begun(records: int) -> bool:
        """Return whether there are so many records, by a count that costs the server nothing."""
        return bool(place.pages.estimated_document_count() >= records)

    programs[0].wait_until(lambda: begun(1))
    started, before = time.perf_counter(), completed()
    with CpuTime({"workers": programs}) as cpu:
        programs[0].wait_until(lambda: begun(PAGES) and completed() >= PAGES)
    pages = PAGES - before
    return Rate(pages / (time.perf_counter() - started), cpu.ms_each(pages)["workers"])


def _bare(ground: Ground) -> Rate:
    return bare.measure(ground.site_port, pages=PAGES, concurrency=CONCURRENCY)


def _ours(concurrency: int, processes: int = 1, driver: str = "motor") -> Worker:
    slots = {"WORKER_CONCURRENCY": str(concurrency)}
    environment = {**SETTINGS, **slots, "DATABASE_DRIVER": driver}
    return Worker(OURS, environment, sender="on_ours", processes=processes)


def _celery(pool: str, concurrency: int) -> Worker:
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    slots = ("--pool", pool, "--concurrency", str(concurrency))
    return Worker((*CELERY, *quiet, *slots), sender="on_celery")


WORKERS: dict[str, Callable[[Ground], Rate]] = {
    BARE: _bare,
    "ours, 16 at once": _ours(CONCURRENCY).measure,
    "ours, on pymongo": _ours(CONCURRENCY, driver="pymongo").measure,
    "ours, 2 processes": _ours(CONCURRENCY, processes=2).measure,
    ONE_AT_A_TIME: _ours(1).measure,
    "Celery, 2 processes": _celery("prefork", 2).measure,
    "Celery, 16 threads": _celery("threads", CONCURRENCY).measure,
    "Dramatiq, 16 threads": Worker(
        (*DRAMATIQ, "--threads", str(CONCURRENCY)),
        {"dramatiq_queue_prefetch": str(CONCURRENCY)},
        sender="on_dramatiq",
    ).measure,
    "taskiq, 16 at once": Worker(
        (*TASKIQ, "--max-async-tasks", str(CONCURRENCY), "--ack-type", "when_saved"),
        sender="on_taskiq",
    ).measure,
    "Scrapy, 16 at once": Worker(SCRAPY).measure,
}
"""The contestants by name, each with the function that measures it."""

REMARKS = {
    BARE: "no queue, nothing stored: the reference",
    "ours, 16 at once": "one process; a second write claims a page before it is fetched",
    "ours, on pymongo": "the same with `DATABASE_DRIVER=pymongo`",
    "ours, 2 processes": "two of the first kind, each with 16 at once",
    ONE_AT_A_TIME: "one process with `WORKER_CONCURRENCY=1`",
    "Celery, 2 processes": "prefork, `acks_late`, prefetch multiplier 1",
    "Celery, 16 threads": "one process, `acks_late`, prefetch multiplier 1",
    "Dramatiq, 16 threads": "one process, prefetch 16",
    "taskiq, 16 at once": "one process, prefetch 16, acknowledged after the work",
    "Scrapy, 16 at once": "one process; **no broker**: what it has not stored when it ends is lost",
}
