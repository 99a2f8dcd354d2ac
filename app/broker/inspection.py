"""The queues as an operator sees them, from outside the two processes. Nothing is declared."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from faststream.rabbit import RabbitQueue

from app.broker.connection import describe
from app.broker.queues import QueueCounts, count_queue
from app.broker.topology import Topology, declare
from app.errors import BrokerUnreachable


@asynccontextmanager
async def connected(
    urls: Sequence[str], *, timeout_seconds: float
) -> AsyncIterator[AbstractConnection]:
    """Connect to the first host that answers. Raises `BrokerUnreachable`."""
    connection = await _connect(urls, timeout_seconds)
    try:
        async with connection:
            yield connection
    except CONNECTION_EXCEPTIONS as exc:
        raise BrokerUnreachable(f"the connection to RabbitMQ was lost: {describe(exc)}") from exc


async def _connect(urls: Sequence[str], timeout_seconds: float) -> AbstractConnection:
    reason = "no host was given"
    for url in urls:
        try:
            async with asyncio.timeout(timeout_seconds):
                return await aio_pika.connect_robust(url)
        except CONNECTION_EXCEPTIONS as exc:
            reason = describe(exc)
    raise BrokerUnreachable(f"RabbitMQ could not be reached: {reason}")


async def look(connection: AbstractConnection, topology: Topology) -> dict[str, QueueCounts | None]:
    """Return the counts of every queue by its name, None for one that is missing."""
    return {queue.name: await _look_at(connection, queue) for queue in topology}


async def _look_at(connection: AbstractConnection, queue: RabbitQueue) -> QueueCounts | None:
    # A channel for each: the broker closes one on which a missing queue is named.
    with suppress(ChannelNotFoundEntity):
        async with connection.channel(publisher_confirms=False) as channel:
            return await count_queue(channel, queue.name)
    return None


async def check_arguments(connection: AbstractConnection, queue: RabbitQueue) -> None:
    """Raise `TopologyMismatch` if a queue that exists has other arguments than ours."""
    await declare(connection, [queue])
