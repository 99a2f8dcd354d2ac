"""The messages of `metadata.dead`, for an operator: read, send back to the request queue, discard.

RabbitMQ has no way to read a message and leave it where it is. So each message is fetched without
an acknowledgement, which puts it back when the channel closes.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError

from app.broker.cluster import connected
from app.broker.topology import Topology
from app.errors import PublishFailed, PublishFault, TopologyMismatch


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of `metadata.dead`."""

    letter_id: str
    """The message id, or the first 12 digits of the body's SHA-256 for a message without one."""

    reason: str
    """Why the broker dead-lettered it: `rejected`, `delivery_limit`, …"""

    came_from: str
    """The queue in which it was before."""

    died_at: datetime | None
    body: bytes
    headers: dict[str, object]


class DeadLetterQueue:
    """`metadata.dead`, with a channel on which it is read."""

    def __init__(self, channel: AbstractChannel, topology: Topology) -> None:
        self._channel = channel
        self._topology = topology

    async def letters(self) -> AsyncIterator[tuple[DeadLetter, AbstractIncomingMessage]]:
        """Yield every dead letter that is there now, once, the oldest first.

        Raises `TopologyMismatch` if there is no such queue.
        """
        queue = await self._open_queue()
        for _ in range(queue.declaration_result.message_count or 0):
            message = await queue.get(fail=False, no_ack=False)
            if message is None:
                return
            yield _dead_letter(message), message

    async def _open_queue(self) -> AbstractQueue:
        name = self._topology.dead.name
        try:
            return await self._channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity as exc:
            raise TopologyMismatch(
                f"there is no queue {name}; has the service run with this BROKER_QUEUE_NAME?"
            ) from exc

    async def send_back(self, message: AbstractIncomingMessage) -> None:
        """Publish a dead letter to the request queue; once confirmed, remove it from this one.

        Raises `PublishFailed` if the request queue refuses it. The dead letter then stays.
        """
        # Without its headers: x-death and the delivery count belong to its first life.
        copy = aio_pika.Message(
            message.body,
            content_type=message.content_type,
            message_id=message.message_id,
            correlation_id=message.correlation_id,
            type=message.type,
            timestamp=message.timestamp,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            await self._channel.default_exchange.publish(
                copy, routing_key=self._topology.requests.name, mandatory=True
            )
        except DeliveryError as exc:
            raise PublishFailed(PublishFault.QUEUE_REJECTED) from exc
        await message.ack()

    async def discard(self, message: AbstractIncomingMessage) -> None:
        """Remove a dead letter for good."""
        await message.ack()


@asynccontextmanager
async def open_dead_letters(
    url: str, topology: Topology, *, timeout_seconds: float
) -> AsyncIterator[DeadLetterQueue]:
    """Connect, and return the dead-letter queue. Raises `BrokerUnreachable`."""
    async with (
        connected(url, timeout_seconds=timeout_seconds) as connection,
        connection.channel(publisher_confirms=True, on_return_raises=True) as channel,
    ):
        yield DeadLetterQueue(channel, topology)


def _dead_letter(message: AbstractIncomingMessage) -> DeadLetter:
    headers: dict[str, object] = dict(message.headers)
    # RabbitMQ puts the latest death first.
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths else {}
    return DeadLetter(
        letter_id=message.message_id or hashlib.sha256(message.body).hexdigest()[:12],
        reason=str(death.get("reason", "unknown")),
        came_from=str(death.get("queue", "unknown")),
        died_at=death.get("time"),
        body=message.body,
        headers=headers,
    )
