"""`just bench [rounds]`: how fast, as ratios against a named baseline in the same run.

Each round measures a baseline and ours one after the other, on the same servers; what counts is
the median of the rounds' ratios. Nothing else should run on the machine.
"""

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pymongo
import uvloop
from rich.console import Console
from rich.table import Table

from bench.load import Result, get, load, post
from dev.servers import MongoDB, RabbitMQ, free_port, install_missing
from dev.stack import ROOT, Api, Process, Worker, running
from tests.messages import a_message, publish_to

CONNECTIONS = 64
CONCURRENCY = 16
SECONDS = 5.0
PAGES = 2000

SETTINGS = {
    "BROKER_QUEUE_MAX_LENGTH": "10000000",
    "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
    "FETCH_PER_HOST_CONCURRENCY": "0",
    "WORKER_CONCURRENCY": str(CONCURRENCY),
}

_console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours and the baseline of one round, in the same unit, more being better."""

    ours: float
    baseline: float

    @property
    def value(self) -> float:
        """Ours over the baseline."""
        return self.ours / self.baseline


class Noop(Process):
    """The no-op endpoint, started as the API is."""

    def _command(self) -> list[str]:
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        return [sys.executable, "-m", "uvicorn", "bench.noop:app", *address]


@dataclass(frozen=True, slots=True)
class Setup:
    """What the benchmarks run on."""

    rabbitmq: RabbitMQ
    mongodb: MongoDB
    api: Api
    noop: Noop
    worker: Worker
    site_port: int

    @property
    def pages(self) -> Any:
        """The collection of page records."""
        return pymongo.MongoClient[dict[str, Any]](self.mongodb.url).metadata_inventory.pages


@contextmanager
def prepared() -> Iterator[Setup]:
    """Start servers, API, no-op endpoint and site; the worker is started when it is measured."""
    install_missing()
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rabbitmq, mongodb = RabbitMQ(folder / "rabbitmq"), MongoDB(folder / "mongodb")
        stack.enter_context(running(rabbitmq, mongodb))
        environment = {**SETTINGS, "BROKER_URL": rabbitmq.url, "DATABASE_URL": mongodb.url}
        api, worker = Api(folder, environment=environment), Worker(folder, environment=environment)
        noop = Noop(folder, name="noop", environment=environment)
        stack.enter_context(running(api, noop))
        port = free_port()
        site = subprocess.Popen([sys.executable, "-m", "bench.site", str(port)], cwd=ROOT)
        stack.callback(site.kill)
        yield Setup(rabbitmq, mongodb, api, noop, worker, port)
        worker.stop()


def posting(setup: Setup) -> Ratio:
    """POST: confirmed by a quorum queue and recorded, against an endpoint that does nothing."""
    return Ratio(_posted(setup.api.port).per_second, _posted(setup.noop.port).per_second)


def reading(setup: Setup) -> Ratio:
    """GET of a stored page of 20 KB, against a POST that does nothing."""
    url = f"http://127.0.0.1:{setup.site_port}/read"
    _store_page(setup, url, datetime.now(UTC))
    answered = uvloop.run(
        load(
            setup.api.port,
            get(setup.api.port, f"/metadata?url={url}"),
            wanted=200,
            connections=CONNECTIONS,
            seconds=SECONDS,
        )
    )
    return Ratio(answered.per_second, _posted(setup.noop.port).per_second)


def collecting(setup: Setup) -> Ratio:
    """Pages a second from the queue to the record, against a bare httpx loop."""
    bare = subprocess.run(
        [sys.executable, "-m", "bench.bare", *map(str, (setup.site_port, PAGES, CONCURRENCY))],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return Ratio(_collected(setup), float(bare.stdout))


def _posted(port: int) -> Result:
    numbers = itertools.count()
    prefix = uuid4().hex
    bodies = (json.dumps({"url": f"http://example.com/{prefix}/{n}"}).encode() for n in numbers)
    return uvloop.run(
        load(port, post(port, bodies), wanted=202, connections=CONNECTIONS, seconds=SECONDS)
    )


def _store_page(setup: Setup, url: str, now: datetime) -> None:
    page = {
        "final_url": url,
        "status_code": 200,
        "http_version": "HTTP/1.1",
        "headers": [{"name": "content-type", "value": "text/html"}] * 12,
        "cookies": [],
        "page_source": "x" * 20_000,
        "page_source_truncated": False,
        "content_type": "text/html",
        "charset": "utf-8",
        "body_bytes": 20_000,
        "body_sha256": "0" * 64,
        "redirects": [],
        "remote_address": "127.0.0.1",
        "elapsed_ms": 1.0,
        "fetched_at": now,
    }
    processing = {
        "attempts": 1,
        "last_request_id": None,
        "last_error": None,
        "lease_expires_at": None,
    }
    record = {"status": "COMPLETED", "metadata": page, "processing": processing}
    times = {"created_at": now, "updated_at": now}
    setup.pages.update_one({"url": url}, {"$set": record | times}, upsert=True)


def _collected(setup: Setup) -> float:
    prefix = uuid4().hex
    urls = [f"http://127.0.0.1:{setup.site_port}/{prefix}/{number}" for number in range(PAGES)]
    setup.rabbitmq.ctl("purge_queue", "metadata.requests")
    queued = publish_to(setup.rabbitmq.url, "metadata.requests", [a_message(url) for url in urls])
    asyncio.run(queued)
    done = {"url": {"$regex": prefix}, "status": "COMPLETED"}
    setup.worker.launch().wait_for_event("fetch_started")
    started = time.perf_counter()
    while setup.pages.count_documents(done) < PAGES:
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    setup.worker.stop()
    return PAGES / seconds


BENCHMARKS: dict[str, tuple[Callable[[Setup], Ratio], str]] = {
    "POST": (posting, "no-op endpoint"),
    "GET of 20 KB": (reading, "no-op endpoint"),
    "worker": (collecting, "bare httpx loop"),
}


def main() -> None:
    """Measure everything so many rounds, and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    measured: dict[str, list[Ratio]] = {name: [] for name in BENCHMARKS}
    with prepared() as setup:
        for number, (name, (measure, _)) in itertools.product(range(rounds), BENCHMARKS.items()):
            _console.print(f"  round {number + 1}: {name}")
            measured[name].append(measure(setup))
    _console.print(_table(measured))
    _console.print(f"{rounds} rounds on {os.cpu_count()} cores; load now {os.getloadavg()[0]:.1f}")


def _table(measured: dict[str, list[Ratio]]) -> Table:
    table = Table("what", "a second", "baseline", "a second", "ratio", "spread", box=None)
    for name, ratios in measured.items():
        values = sorted(ratio.value for ratio in ratios)
        table.add_row(
            name,
            f"{statistics.median(ratio.ours for ratio in ratios):.0f}",
            BENCHMARKS[name][1],
            f"{statistics.median(ratio.baseline for ratio in ratios):.0f}",
            f"{statistics.median(values):.2f}",
            f"{values[0]:.2f} to {values[-1]:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
