"""The events for the command line: followed as they are published, and published once more.

The processes of the service publish them by `app/broker/publisher.py`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError

from app.broker.cluster import connected_once
from app.broker.events import CONTENT_TYPE, event_type, routing_key
from app.broker.publisher import event_message
from app.broker.topology import Topology
from app.errors import PublishFailed, PublishFault, TopologyMismatch
from app.models import EventKind, PageEvent

MAX_UNACKNOWLEDGED = 100

MAX_WAITING = 10_000
"""How many events wait for a command that does not read on, such as one in a stopped terminal. The
broker drops the oldest then."""

FollowedEvent = dict[str, Any]
"""The body of an event as it was published, so that fields of a newer version are there too."""


class EventStream:
    """The exchange of events, with a channel for one command."""

    def __init__(
        self, channel: AbstractChannel, exchange: AbstractExchange, *, timeout_seconds: float
    ) -> None:
        self._channel = channel
        self._exchange = exchange
        self._timeout_seconds = timeout_seconds

    async def follow(self, kinds: Iterable[EventKind]) -> AsyncGenerator[FollowedEvent, None]:
        """Yield the events of these kinds that are published from now on, or of all kinds.

        The queue belongs to this connection alone, and is gone with it. Raises `ConnectionError` if
        the connection is lost.
        """
        await self._channel.set_qos(prefetch_count=MAX_UNACKNOWLEDGED)
        queue = await self._channel.declare_queue(
            # Below the name of the exchange: the user of the service may declare no other names.
            f"{self._exchange.name}.{uuid4().hex}",
            exclusive=True,
            auto_delete=True,
            arguments={"x-max-length": MAX_WAITING, "x-overflow": "drop-head"},
        )
        for key in [routing_key(kind) for kind in kinds] or ["page.*"]:
            await queue.bind(self._exchange, key)
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    yield json.loads(message.body)
        raise ConnectionError("the broker has closed it")

    async def publish(self, event: PageEvent) -> bool:
        """Publish an event as the service does. Say whether every queue has taken it.

        If not, it is the queue of a listener that is full and refuses more; all others have the
        event. Raises `PublishFailed` if the broker does not confirm.
        """
        outgoing = event_message(event)
        message = aio_pika.Message(
            outgoing.body,
            content_type=CONTENT_TYPE,
            message_id=outgoing.message_id,
            correlation_id=outgoing.correlation_id,
            type=event_type(event.kind),
            timestamp=datetime.now(UTC),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._exchange.publish(
                    message, routing_key=routing_key(event.kind), mandatory=False
                )
        except DeliveryError:
            return False
        except TimeoutError as exc:
            raise PublishFailed(PublishFault.CONFIRM_TIMEOUT) from exc
        return True


@asynccontextmanager
async def open_events(
    url: str, topology: Topology, *, timeout_seconds: float
) -> AsyncIterator[EventStream]:
    """Connect, and find the exchange.

    Raises `BrokerUnreachable`, also if the connection is lost later, and `TopologyMismatch` if
    there is no such exchange.
    """
    async with (
        connected_once(url, timeout_seconds=timeout_seconds) as connection,
        connection.channel(publisher_confirms=True) as channel,
    ):
        try:
            exchange = await channel.get_exchange(topology.events.name)
        except ChannelNotFoundEntity as exc:
            name = topology.events.name
            raise TopologyMismatch(
                f"there is no exchange {name}; has the service run with this BROKER_QUEUE_NAME?"
            ) from exc
        yield EventStream(channel, exchange, timeout_seconds=timeout_seconds)
