"""Benchmarks of an idle service: from POST to record, and from launch to ready."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
import httpx
from pymongo import WriteConcern
from pymongo.collection import Collection

from bench.report import Reading
from bench.setup import Setup
from dev.stack import Api, Process, Worker, running

TIMES = 100


def end_to_end(setup: Setup) -> Iterator[Reading]:
    """Measure POST to record, relative to its parts done alone. In milliseconds.

    The parts are a confirmed publish, a fetch, and two durable writes.
    """
    with httpx.Client(trust_env=False) as client, running(worker := setup.worker()):
        _post_to_record(setup, client, worker)  # not counted: the first one opens connections
        ours = statistics.median(_post_to_record(setup, client, worker) for _ in range(TIMES))
    parts = asyncio.run(_publish_and_fetch(setup)) + _two_writes(setup)
    yield Reading("POST to record, idle", ours * 1e3, parts * 1e3)


def starting_up(setup: Setup) -> Iterator[Reading]:
    """Measure the time from launch to `/health/ready`, in seconds."""
    api = Api(setup.ground.folder, name="starting-api", environment=setup.environment)
    yield Reading("start-up of the API", _seconds_to_start(api))
    yield Reading("start-up of a worker", _seconds_to_start(setup.worker("starting-worker")))


def _seconds_to_start(process: Process) -> float:
    began = time.perf_counter()
    with running(process):
        return time.perf_counter() - began


def _post_to_record(setup: Setup, client: httpx.Client, worker: Worker) -> float:
    url = setup.page_url(uuid4().hex)
    began = time.time()
    client.post(f"{setup.api.url}/metadata", json={"url": url}).raise_for_status()
    recorded = worker.wait_for_event("metadata_final_state", url=url)["timestamp"]
    return datetime.fromisoformat(recorded).timestamp() - began


async def _publish_and_fetch(setup: Setup) -> float:
    connection = await aio_pika.connect(setup.ground.rabbitmq.url)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with connection, httpx.AsyncClient(trust_env=False, limits=limits) as client:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue(
            "bench.parts", durable=True, arguments={"x-queue-type": "quorum"}
        )
        message = aio_pika.Message(b"x" * 200, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)

        async def publish() -> None:
            await channel.default_exchange.publish(message, queue.name)

        async def fetch() -> None:
            (await client.get(setup.page_url("parts"))).raise_for_status()

        return await _median(publish) + await _median(fetch)


async def _median(act: Callable[[], Awaitable[None]]) -> float:
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await act()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _two_writes(setup: Setup) -> float:
    concern = WriteConcern(w="majority", j=True)
    records = setup.pages.database.get_collection("bench_parts", write_concern=concern)
    records.create_index("url", unique=True)
    return statistics.median(_claim_and_complete(records) for _ in range(TIMES))


def _claim_and_complete(records: Collection[dict[str, Any]]) -> float:
    url = uuid4().hex
    began = time.perf_counter()
    records.insert_one({"url": url, "status": "IN_PROGRESS", "updated_at": datetime.now(UTC)})
    page = {"status": "COMPLETED", "metadata": {"page_source": "x" * 10_000}}
    records.update_one({"url": url}, {"$set": page})
    return time.perf_counter() - began
