"""Room for new messages beside those that are held until the broker takes their retry.

RabbitMQ delivers no more messages to a consumer than its prefetch, until some are acknowledged. The
message of a page whose retry is refused is not acknowledged, although it needs no slot. Once
`prefetch` such messages are held, RabbitMQ delivers no more, though slots are free. A larger
prefetch is no remedy: a busy worker would take messages that other workers have free slots for.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import RabbitBroker
from loguru import logger

from app.broker.cluster import connection_error_if_closed
from app.broker.private_api import (
    consume_too,
    consumed_queue,
    consuming_channel,
    subscribers_of,
)

MAX_EXTRA_CONSUMERS = 15
"""For each queue. It bounds what a worker holds: (1 + 15) x prefetch messages of some KB each.

With that many held the worker takes nothing from the queue until retries are taken again, and POST
answers 503 once the queue is full.
"""


class ExtraConsumers:
    """More consumers of the queues that the broker's subscribers consume, on the same channel.

    RabbitMQ gives each consumer a prefetch of its own, as large as the channel's.
    """

    def __init__(self, broker: RabbitBroker, *, prefetch: int) -> None:
        self._broker = broker
        self._prefetch = prefetch
        self._adjusting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def adjust(self, queue: str, *, held: int) -> None:
        """Have one extra consumer for every `prefetch` messages that are held; none for none."""
        try:
            async with self._adjusting[queue]:
                with connection_error_if_closed():
                    await self._adjust(queue, held)
        except CONNECTION_EXCEPTIONS as exc:
            logger.warning("consumers_not_adjusted", reason=type(exc).__name__)

    async def _adjust(self, name: str, held: int) -> None:
        subscriber = next(it for it in subscribers_of(self._broker) if it.queue.name == name)
        queue = await consumed_queue(self._broker, subscriber.queue)
        channel = await consuming_channel(queue)
        tags = [f"{name}.extra.{number}" for number in range(MAX_EXTRA_CONSUMERS)]
        open_tags = [tag for tag in tags if tag in channel.consumers]
        for tag in tags[: self._wanted(held)]:
            if tag not in open_tags:
                # After a loss of the connection nothing is held, so it is not to be restored.
                await consume_too(subscriber, queue, tag)
                logger.info("extra_consumer_opened", queue=name)
        # They are cancelled together: one that comes and goes with each message would be costly.
        for tag in [] if held else open_tags:
            await queue.cancel(tag)
            logger.info("extra_consumer_cancelled", queue=name)

    def _wanted(self, held: int) -> int:
        # Rounded half up, so that at least half of a prefetch is always free.
        return (2 * held + self._prefetch) // (2 * self._prefetch)


class HeldMessages:
    """Counts the messages that are held, and makes room for others beside them."""

    def __init__(self, consumers: ExtraConsumers) -> None:
        self._consumers = consumers
        self._held: Counter[str] = Counter()

    @property
    def any(self) -> bool:
        """Whether a message is held."""
        return self._held.total() > 0

    @asynccontextmanager
    async def holding(self, queue: str) -> AsyncIterator[None]:
        """Count one message of the queue as held within the block."""
        self._held[queue] += 1
        try:
            yield
        finally:
            self._held[queue] -= 1
        # Not if the block was cancelled: then the connection is lost, and its consumers with it.
        if not self._held[queue]:
            await self._consumers.adjust(queue, held=0)

    async def make_room(self, queue: str) -> None:
        """Have the queue consumed beside the messages that are held now."""
        await self._consumers.adjust(queue, held=self._held[queue])
