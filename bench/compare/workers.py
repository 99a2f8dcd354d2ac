"""How many pages a second go from a filled queue into stored records."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.compare.arena import COMPLETED, Place, place_in
from bench.compare.programs import Program
from bench.ground import Ground
from dev.servers import free_port
from dev.stack import ROOT

PAGES = 1000
CONCURRENCY = 16

OURS = ("faststream", "run", "app.worker.main:app", "--host", "127.0.0.1", "--port", "{port}")
CELERY = ("celery", "--app", "bench.compare.on_celery", "worker", "--loglevel", "WARNING")
DRAMATIQ = ("dramatiq", "bench.compare.on_dramatiq", "--processes", "1")
TASKIQ = ("taskiq", "worker", "bench.compare.on_taskiq:broker", "--workers", "1")
SCRAPY = ("bench.compare.on_scrapy", "{site}", "{pages}")

BARE = "bare httpx loop"
ONE_AT_A_TIME = "ours, one page at a time"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process: how to start it, and the module that fills its queue.

    In `arguments`, {port} becomes a free port, {site} the port of the site and {pages} the number
    of pages. `sender` is None for a contestant without a queue.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    sender: str | None = None

    def pages_per_second(self, ground: Ground) -> float:
        """Have it collect the pages.

        The clock starts with the first record, so the start of the process does not count.
        """
        with place_in(ground) as place:
            environment = self.environment | place.environment
            if self.sender:
                fill = ("bench.compare.send", self.sender, str(ground.site_port), str(PAGES))
                with Program(place.folder, fill, environment=environment) as program:
                    program.wait_for_event("sent", deadline=60)
            values = {"port": free_port(), "site": ground.site_port, "pages": PAGES}
            arguments = [argument.format(**values) for argument in self.arguments]
            with Program(place.folder, arguments, environment=environment) as program:
                return _rate(program, place)


def _rate(program: Program, place: Place) -> float:
    def completed() -> int:
        count: int = place.pages.count_documents({"status": COMPLETED})
        return count

    def begun(records: int) -> bool:
        """Return whether there are so many records, by a count that costs the server nothing."""
        return bool(place.pages.estimated_document_count() >= records)

    program.wait_until(lambda: begun(1))
    started, before = time.perf_counter(), completed()
    program.wait_until(lambda: begun(PAGES) and completed() >= PAGES)
    return (PAGES - before) / (time.perf_counter() - started)


def bare(ground: Ground) -> float:
    """Fetch the pages and store nothing."""
    numbers = map(str, (ground.site_port, PAGES, CONCURRENCY))
    command = [sys.executable, "-m", "bench.bare", *numbers]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


def _ours(concurrency: int) -> Worker:
    environment = {
        "BROKER_QUEUE_MAX_LENGTH": "10000000",
        "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "FETCH_PER_HOST_CONCURRENCY": "0",
        "WORKER_CONCURRENCY": str(concurrency),
    }
    return Worker(OURS, environment, sender="on_ours")


def _celery(pool: str, concurrency: int) -> Worker:
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    slots = ("--pool", pool, "--concurrency", str(concurrency))
    return Worker((*CELERY, *quiet, *slots), sender="on_celery")


WORKERS: dict[str, Callable[[Ground], float]] = {
    BARE: bare,
    "ours, 16 at once": _ours(CONCURRENCY).pages_per_second,
    ONE_AT_A_TIME: _ours(1).pages_per_second,
    "Celery, 2 processes": _celery("prefork", 2).pages_per_second,
    "Celery, 16 threads": _celery("threads", CONCURRENCY).pages_per_second,
    "Dramatiq, 16 threads": Worker(
        (*DRAMATIQ, "--threads", str(CONCURRENCY)),
        {"dramatiq_queue_prefetch": str(CONCURRENCY)},
        sender="on_dramatiq",
    ).pages_per_second,
    "taskiq, 16 at once": Worker(
        (*TASKIQ, "--max-async-tasks", str(CONCURRENCY), "--ack-type", "when_saved"),
        sender="on_taskiq",
    ).pages_per_second,
    "Scrapy, 16 at once": Worker(SCRAPY).pages_per_second,
}
"""The contestants by name, each with the function that measures it."""

REMARKS = {
    BARE: "no queue, nothing stored: the reference",
    "ours, 16 at once": "one process; a second write claims the page before it is fetched",
    ONE_AT_A_TIME: "the same with `WORKER_CONCURRENCY=1`",
    "Celery, 2 processes": "prefork, `acks_late`, prefetch multiplier 1",
    "Celery, 16 threads": "one process, `acks_late`, prefetch multiplier 1",
    "Dramatiq, 16 threads": "one process, prefetch 16",
    "taskiq, 16 at once": "one process, prefetch 16, acknowledged after the work",
    "Scrapy, 16 at once": "one process; **no broker**: what it has not stored when it ends is lost",
}
