"""What `just bench` runs on: both servers, the API, a no-op endpoint and a site, on loopback.

A worker is started by the benchmark that measures it.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pymongo
from pymongo.collection import Collection

from bench.cpu import CpuTime
from bench.ground import Ground, prepared_ground
from dev.servers import Server
from dev.stack import Api, Process, Worker, running
from tests.messages import a_message, publish_to

CONCURRENCY = 16

EXTRACTING = {"WORKER_EXTRACT": "true"}
"""For workers that fill `metadata.document`."""

TELLING = {"EVENTS": "true"}
"""For workers that publish events. Nobody listens, which is the least that it may cost."""

ON_PYMONGO = {"DATABASE_DRIVER": "pymongo"}

SETTINGS = {
    "EVENTS": "false",
    "WORKER_EXTRACT": "false",
    "BROKER_QUEUE_MAX_LENGTH": "10000000",
    "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
    "FETCH_PER_HOST_CONCURRENCY": "0",
    "WORKER_CONCURRENCY": str(CONCURRENCY),
}


class Noop(Process):
    """The no-op endpoint, as a process like the API."""

    usual_name = "noop"

    def _command(self) -> list[str]:
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        return [sys.executable, "-m", "uvicorn", "bench.noop:app", *address]


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything that runs, and ways to give it work."""

    ground: Ground
    pages: Collection[dict[str, Any]]
    api: Api
    noop: Noop
    environment: dict[str, str]

    def versions(self) -> dict[str, str]:
        """Return the servers' versions."""
        server_info = self.pages.database.client.server_info()
        rabbitmq = self.ground.rabbitmq.ctl("--quiet", "version").strip()
        return {"RabbitMQ": rabbitmq, "MongoDB": server_info["version"]}

    def worker(self, name: str = "worker", **settings: str) -> Worker:
        """Return a worker with these settings, not started yet."""
        return Worker(self.ground.folder, name=name, environment={**self.environment, **settings})

    def another_api(self, **settings: str) -> Api:
        """Return an API with these settings beside `api`, not started yet."""
        return Api(self.ground.folder, name="api-2", environment={**self.environment, **settings})

    def cpu_of(self, **servers: Sequence[Server]) -> CpuTime:
        """Measure the CPU time of these servers, with RabbitMQ and MongoDB beside them."""
        rabbitmq, mongodb = [self.ground.rabbitmq], [self.ground.mongodb]
        return CpuTime({**servers, "RabbitMQ": rabbitmq, "MongoDB": mongodb})

    def page_url(self, path: str, *, delay_ms: int = 0) -> str:
        """Return the URL of a page that the site serves after `delay_ms`."""
        return f"http://127.0.0.1:{self.ground.site_port}/{delay_ms}/{path}"

    def queue_pages(self, count: int, *, folder: str = "", delay_ms: int = 0) -> str:
        """Fill the request queue with new pages; return the common beginning of their URLs."""
        prefix = self.page_url(f"{folder}{uuid4().hex}", delay_ms=delay_ms)
        self.ground.rabbitmq.ctl("purge_queue", "metadata.requests")
        messages = [a_message(f"{prefix}/{number}") for number in range(count)]
        asyncio.run(publish_to(self.ground.rabbitmq.url, "metadata.requests", messages))
        return prefix

    def wait_until_collected(self, prefix: str, count: int) -> None:
        """Wait for all pages of `queue_pages()`."""
        mine = _beginning_with(prefix)
        # While some have no record yet, it is enough to count records. MongoDB does that in the
        # index, and has to read no pages for it.
        while self.pages.count_documents(mine) < count:
            time.sleep(0.1)
        while self.pages.count_documents({**mine, "status": "COMPLETED"}) < count:
            time.sleep(0.1)

    def seconds_to_collect(self, prefix: str) -> float:
        """Return the seconds from the first claim to the last write."""
        times = {"processing.last_attempt_at": 1, "updated_at": 1}
        records = list(self.pages.find(_beginning_with(prefix), times))
        claimed = min(record["processing"]["last_attempt_at"] for record in records)
        written = max(record["updated_at"] for record in records)
        return float((written - claimed).total_seconds())


def _beginning_with(prefix: str) -> dict[str, Any]:
    return {"url": {"$gt": prefix, "$lt": f"{prefix}~"}}


@contextmanager
def prepared() -> Iterator[Setup]:
    """Run everything while the block lasts."""
    with ExitStack() as stack:
        ground = stack.enter_context(prepared_ground())
        client = pymongo.MongoClient[dict[str, Any]](ground.mongodb.url)
        stack.enter_context(client)
        servers = {"BROKER_URL": ground.rabbitmq.url, "DATABASE_URL": ground.mongodb.url}
        environment = SETTINGS | servers
        api = Api(ground.folder, environment=environment)
        noop = Noop(ground.folder, environment=environment)
        stack.enter_context(running(api, noop))
        yield Setup(ground, client.metadata_inventory.pages, api, noop, environment)
