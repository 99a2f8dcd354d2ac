"""FastStream's publisher as it comes: confirmed and persistent, without anything of ours."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from bench.compare.sending import Sending

QUEUE = RabbitQueue("pages", queue_type=QueueType.QUORUM, durable=True)

broker = RabbitBroker(
    os.environ["BROKER_URL"],
    default_channel=Channel(publisher_confirms=True, on_return_raises=True),
    logger=None,
)
_publisher = broker.publisher(QUEUE, mandatory=True, persist=True)


async def queue(url: str) -> None:
    """Publish the URL; return once it is confirmed."""
    await _publisher.publish(url.encode())


def send(sending: Sending) -> None:
    """Send from tasks over one channel."""
    uvloop.run(sending.while_connected(connected(), queue))


@asynccontextmanager
async def connected(_api: object = None) -> AsyncIterator[None]:
    """Connect, and close when the block is left; an API has this as its lifespan."""
    async with broker:
        await broker.declare_queue(QUEUE)
        yield
