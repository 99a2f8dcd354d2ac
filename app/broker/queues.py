"""What the broker answers to passive declarations: whether something exists, and who uses it."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple, TypeVar

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from faststream.rabbit import RabbitExchange, RabbitQueue
from loguru import logger

from app.broker.cluster import connection_error_if_closed
from app.broker.connection import BrokerConnection
from app.runtime import metrics
from app.runtime.repeating import repeat

T = TypeVar("T")

COUNT_TIMEOUT_SECONDS = 2.0
CHECK_INTERVAL_SECONDS = 5.0


class QueueCounts(NamedTuple):
    """Messages that are ready (those a worker holds are not counted), and consumers."""

    messages: int
    consumers: int


Counts = dict[str, QueueCounts | None]
"""The counts of queues by their names, None for a queue that is missing."""


async def count_queues(
    open_channel: Callable[[], AbstractChannel], queues: Iterable[RabbitQueue]
) -> Counts:
    """Return the counts of each queue."""
    return {queue.name: await _count(open_channel, queue.name) for queue in queues}


async def _count(open_channel: Callable[[], AbstractChannel], name: str) -> QueueCounts | None:
    # Each queue has a channel of its own, because the broker closes the channel on which a
    # missing queue is asked for.
    with suppress(ChannelNotFoundEntity):
        async with open_channel() as channel:
            return await count_on(channel, name)
    return None


async def count_on(channel: AbstractChannel, name: str) -> QueueCounts:
    """Return the counts of one queue. The broker closes the channel if the queue is missing."""
    counts = (await channel.declare_queue(name, passive=True)).declaration_result
    return QueueCounts(counts.message_count or 0, counts.consumer_count or 0)


async def exchange_exists(
    open_channel: Callable[[], AbstractChannel], exchange: RabbitExchange
) -> bool:
    """Say whether the exchange exists."""
    with suppress(ChannelNotFoundEntity):
        async with open_channel() as channel:
            await channel.get_exchange(exchange.name)
            return True
    return False


@asynccontextmanager
async def queues_watched(
    connection: BrokerConnection, interval_seconds: float = CHECK_INTERVAL_SECONDS
) -> AsyncIterator[None]:
    """Notice within the block if somebody deletes a queue, or the exchange, and declare it again.

    Also notes which queues have room, so that the connection can tell a wrong refusal from a full
    queue.

    A publish would notice a missing request queue. But nobody publishes to `metadata.dead`, and a
    worker whose queue is deleted is told only that its consumer is gone.
    """
    look = partial(_look, connection)
    watching = asyncio.create_task(
        repeat(look, seconds=interval_seconds, failure="queues_not_counted")
    )
    try:
        yield
    finally:
        watching.cancel()


async def _look(connection: BrokerConnection) -> None:
    counts = await _counts_if_known(connection)
    missing = [name for name, one in counts.items() if one is None]
    if missing := missing + await _missing_exchanges(connection):
        connection.declare_again(missing)
    connection.note_room(
        queue.name for queue in connection.topology if _has_room(queue, counts.get(queue.name))
    )


def _has_room(queue: RabbitQueue, counts: QueueCounts | None) -> bool:
    """Say whether a queue takes messages for certain, until it is counted again.

    A quorum queue that was full takes messages again below 80 % of its limit
    (https://github.com/rabbitmq/rabbitmq-server/pull/2407). Half of the limit is asked for, because
    other processes fill the queue between two counts.
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


async def _counts_if_known(connection: BrokerConnection) -> Counts:
    """Return the counts as `count_queues` does, or nothing if the broker does not answer."""
    ask = partial(count_queues, connection.channel, connection.topology)
    return await _answered(connection, ask, {})


async def _missing_exchanges(connection: BrokerConnection) -> list[str]:
    """Return the name of the exchange if it is missing; nothing if the broker does not answer."""
    exchange = connection.topology.events
    ask = partial(exchange_exists, connection.channel, exchange)
    return [] if await _answered(connection, ask, True) else [exchange.name]


async def _answered(
    connection: BrokerConnection, ask: Callable[[], Awaitable[T]], otherwise: T
) -> T:
    """Return what the broker answers, or `otherwise` if it does not answer in time."""
    if not connection.is_ready:
        return otherwise
    try:
        with connection_error_if_closed():
            async with asyncio.timeout(COUNT_TIMEOUT_SECONDS):
                return await ask()
    except CONNECTION_EXCEPTIONS as exc:
        logger.warning("queues_not_counted", reason=type(exc).__name__)
        return otherwise
