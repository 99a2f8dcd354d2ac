"""taskiq on RabbitMQ, with taskiq-aio-pika."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from taskiq import TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

from bench.compare.collecting import AsyncCollector
from bench.compare.sending import Sending

CONCURRENCY = 16

broker = AioPikaBroker(os.environ["BROKER_URL"], qos=CONCURRENCY).with_queue(
    Queue(name="pages", type=QueueType.QUORUM, durable=True)
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_clients(state: TaskiqState) -> None:
    """Create the clients that all tasks of the process share."""
    state.collector = AsyncCollector()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_clients(state: TaskiqState) -> None:
    """Close the clients."""
    await state.collector.close()


@broker.task("collect")
async def collect(url: str) -> None:
    """Fetch a page and store it."""
    await broker.state.collector.collect(url)


queue = collect.kiq


def send(sending: Sending) -> None:
    """Send from tasks over one channel."""
    uvloop.run(sending.while_connected(connected(), queue))


@asynccontextmanager
async def connected(_api: object = None) -> AsyncIterator[None]:
    """Connect, and close when the block is left; an API has this as its lifespan."""
    await broker.startup()
    yield
    await broker.shutdown()
