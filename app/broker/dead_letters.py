"""Dead letters for an operator: look at them, send them back, discard them."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity, DeliveryError

from app.broker.topology import Topology
from app.errors import BrokerUnreachable, PublishFailed, TopologyMismatch


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of `metadata.dead`.

    `letter_id` is its message id, or the start of its body's SHA-256 if it has none; `reason` is
    the broker's: rejected, delivery_limit, …
    """

    letter_id: str
    reason: str
    came_from: str
    died_at: datetime | None
    body: bytes
    headers: dict[str, object]


class DeadLetterBox:
    """The dead-letter queue, held open: what is taken out is back when the box is closed."""

    def __init__(self, channel: AbstractChannel, topology: Topology) -> None:
        self._channel = channel
        self._topology = topology

    async def letters(self) -> AsyncIterator[tuple[DeadLetter, AbstractIncomingMessage]]:
        """Yield every letter that is in the box now, oldest first, each once.

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
        """Publish a letter to the request queue, confirmed, then take it out of the box.

        Raises `PublishFailed` if the queue does not take it; the letter then stays.
        """
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
            raise PublishFailed("queue_rejected") from exc
        await message.ack()

    async def discard(self, message: AbstractIncomingMessage) -> None:
        """Take a letter out of the box for good."""
        await message.ack()


@asynccontextmanager
async def open_box(
    url: str, topology: Topology, *, timeout_seconds: float
) -> AsyncIterator[DeadLetterBox]:
    """Connect to the dead-letter queue. Raises `BrokerUnreachable`."""
    try:
        connection = await aio_pika.connect(url, timeout=timeout_seconds)
    except CONNECTION_EXCEPTIONS as exc:
        raise BrokerUnreachable(f"RabbitMQ could not be reached: {exc}") from exc
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        yield DeadLetterBox(channel, topology)


def _dead_letter(message: AbstractIncomingMessage) -> DeadLetter:
    headers: dict[str, object] = dict(message.headers)
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
