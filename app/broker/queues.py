"""How many messages and consumers each queue has, as the broker answers a passive declaration."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from faststream.rabbit import RabbitQueue
from loguru import logger

from app.broker.cluster import connection_error_if_closed
from app.broker.connection import BrokerConnection
from app.runtime import metrics

COUNT_TIMEOUT_SECONDS = 2.0
CHECK_INTERVAL_SECONDS = 5.0


class QueueCounts(NamedTuple):
    """Messages that are ready (those a worker holds are not counted), and consumers."""

    messages: int
    consumers: int


async def count_queues(
    open_channel: Callable[[], AbstractChannel], queues: Iterable[RabbitQueue]
) -> dict[str, QueueCounts | None]:
    """Return the counts of each queue by its name, None for a queue that is missing."""
    return {queue.name: await _count(open_channel, queue.name) for queue in queues}


async def _count(open_channel: Callable[[], AbstractChannel], name: str) -> QueueCounts | None:
    # Each queue has a channel of its own, because the broker closes the channel on which a
    # missing queue is asked for.
    with suppress(ChannelNotFoundEntity):
        async with open_channel() as channel:
            counts = (await channel.declare_queue(name, passive=True)).declaration_result
            return QueueCounts(counts.message_count or 0, counts.consumer_count or 0)
    return None


@asynccontextmanager
async def queues_watched(
    connection: BrokerConnection, interval_seconds: float = CHECK_INTERVAL_SECONDS
) -> AsyncIterator[None]:
    """Notice within the block if somebody deletes a queue, and have it declared again.

    Also tells the connection which queues have room, so that it can doubt a refusal.

    A publish would notice a missing request queue. But nobody publishes to `metadata.dead`, and a
    worker whose queue is deleted is told only that its consumer is gone.
    """
    watching = asyncio.create_task(_watch(connection, interval_seconds))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(connection: BrokerConnection, interval_seconds: float) -> None:
    while True:
        await asyncio.sleep(interval_seconds)
        counts = await _counts_if_known(connection)
        if missing := [name for name, one in counts.items() if one is None]:
            connection.declare_again(missing)
        connection.note_room(
            queue.name for queue in connection.topology if _has_room(queue, counts.get(queue.name))
        )


def _has_room(queue: RabbitQueue, counts: QueueCounts | None) -> bool:
    """Say whether a queue takes messages for certain.

    A quorum queue that was full takes messages again below 80 % of its limit
    (https://github.com/rabbitmq/rabbitmq-server/pull/2407).
    """
    limit = queue.arguments.get("x-max-length", math.inf)
    return counts is not None and counts.messages < limit / 2


async def observe(connection: BrokerConnection) -> None:
    """Bring the metrics about the publisher and the queues up to date."""
    metrics.PUBLISHER_READY.set(connection.is_ready)
    counts = await _counts_if_known(connection)
    for gauge in (metrics.QUEUE_MESSAGES, metrics.QUEUE_CONSUMERS):
        gauge.clear()  # so that no figure from before an outage is taken for a current one
    for name, one in counts.items():
        if one is not None:
            metrics.QUEUE_MESSAGES.labels(name).set(one.messages)
            metrics.QUEUE_CONSUMERS.labels(name).set(one.consumers)


async def _counts_if_known(connection: BrokerConnection) -> dict[str, QueueCounts | None]:
    """Return the counts as `count_queues` does, or nothing if the broker does not answer."""
    if not connection.is_ready:
        return {}
    try:
        with connection_error_if_closed():
            async with asyncio.timeout(COUNT_TIMEOUT_SECONDS):
                return await count_queues(connection.channel, connection.topology)
    except CONNECTION_EXCEPTIONS as exc:
        logger.warning("queues_not_counted", reason=type(exc).__name__)
        return {}
