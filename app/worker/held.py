"""Room for new messages beside those that are held until the broker takes their retry.

RabbitMQ delivers no more messages to a consumer than its prefetch, until some are acknowledged. The
message of a page whose retry is refused is not acknowledged. It needs no slot, but without a remedy
as many of them as the prefetch would end the deliveries, and the slots would stay empty. A larger
prefetch is no remedy: a busy worker would take messages from the queue which others have slots for.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import RabbitBroker
from faststream.rabbit.subscriber import RabbitSubscriber
from loguru import logger

from app.broker.cluster import connection_error_if_closed

MAX_EXTRA_CONSUMERS = 15
"""For each queue. They bound what a worker holds: (1 + 15) x prefetch messages of some KB each.

With more the queue is left alone until retries are taken again, and POST answers 503 once it is
full.
"""


class HeldMessages:
    """Counts the messages that are held, and makes room for others beside them.

    Room is another consumer of the same queue, with a prefetch of its own: one for every
    `prefetch` messages that are held. They are cancelled once the queue has no held message.
    """

    def __init__(self, broker: RabbitBroker, *, prefetch: int) -> None:
        self._broker = broker
        self._prefetch = prefetch
        self._held: Counter[str] = Counter()
        self._adjusting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

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
            await self._adjust(queue)

    async def make_room(self, queue: str) -> None:
        """Open as many extra consumers as the messages that are held now call for."""
        await self._adjust(queue)

    async def _adjust(self, queue: str) -> None:
        try:
            async with self._adjusting[queue]:
                with connection_error_if_closed():
                    await self._open_or_cancel(queue)
        except CONNECTION_EXCEPTIONS as exc:
            logger.warning("consumers_not_adjusted", reason=type(exc).__name__)

    async def _open_or_cancel(self, name: str) -> None:
        subscribers = cast("list[RabbitSubscriber]", self._broker.subscribers)
        subscriber = next(it for it in subscribers if it.queue.name == name)
        # FastStream keeps the queues that it has declared, each with its subscriber's channel.
        queue = await self._broker.declare_queue(subscriber.queue)
        channel = cast("Any", await queue.channel.get_underlay_channel())
        tags = [f"{name}.extra.{number}" for number in range(MAX_EXTRA_CONSUMERS)]
        if self._held[name]:
            missing = [tag for tag in tags[: self._wanted(name)] if tag not in channel.consumers]
            for tag in missing:
                # Not a robust one: after a loss of the connection nothing is held any more.
                await queue.consume(
                    subscriber.consume,  # type: ignore[arg-type]  # FastStream does the same
                    consumer_tag=tag,
                    robust=False,
                )
                logger.info("extra_consumer_opened", queue=name, held=self._held[name])
        else:
            for tag in [tag for tag in tags if tag in channel.consumers]:
                await queue.cancel(tag)
                logger.info("extra_consumer_cancelled", queue=name)

    def _wanted(self, name: str) -> int:
        # Rounded half up, so that at least half of a prefetch is always free.
        return (2 * self._held[name] + self._prefetch) // (2 * self._prefetch)
