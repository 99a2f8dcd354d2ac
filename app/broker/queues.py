"""How full the queues are, and who consumes them, as the broker tells by a passive declaration."""

import asyncio
from typing import NamedTuple

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from loguru import logger

from app.broker.connection import BrokerConnection
from app.broker.topology import Topology
from app.runtime import metrics

TIMEOUT_SECONDS = 2.0


class QueueCounts(NamedTuple):
    """Messages that wait (not those a worker holds), and consumers."""

    messages: int
    consumers: int


async def count_queues(channel: AbstractChannel, topology: Topology) -> dict[str, QueueCounts]:
    """Return the counts of every queue by its name.

    Raises `ChannelNotFoundEntity`, and the channel is closed, if one of them is missing.
    """
    return {queue.name: await count_queue(channel, queue.name) for queue in topology}


async def observe(connection: BrokerConnection) -> None:
    """Bring the metrics about broker and queues up to date, within a time."""
    metrics.PUBLISHER_READY.set(connection.is_ready)
    counts = await _counts_if_known(connection)
    for gauge in (metrics.QUEUE_MESSAGES, metrics.QUEUE_CONSUMERS):
        gauge.clear()  # a figure of before an outage would pass for one of now
    for name, (messages, consumers) in counts.items():
        metrics.QUEUE_MESSAGES.labels(name).set(messages)
        metrics.QUEUE_CONSUMERS.labels(name).set(consumers)


async def _counts_if_known(connection: BrokerConnection) -> dict[str, QueueCounts]:
    if not connection.is_ready:
        return {}
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), connection.channel() as channel:
            return await count_queues(channel, connection.topology)
    except CONNECTION_EXCEPTIONS as exc:
        logger.warning("queues_not_counted", reason=type(exc).__name__)
        return {}


async def count_queue(channel: AbstractChannel, name: str) -> QueueCounts:
    """Return the counts of one queue. Raises `ChannelNotFoundEntity` as above."""
    result = (await channel.declare_queue(name, passive=True)).declaration_result
    return QueueCounts(result.message_count or 0, result.consumer_count or 0)
