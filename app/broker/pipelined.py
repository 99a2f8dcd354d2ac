"""Messages that are published at once go to the broker together.

aio-pika's own exchange waits until the bytes of a message have been handed to the socket, and no
other message can be published on the channel meanwhile. So each message takes a turn of the event
loop and a packet of its own, however many wait. Without that wait an event costs a worker 0.2 ms of
CPU less and RabbitMQ 0.1 ms less (measured with aiormq 7.2.4).

Nothing is promised earlier: `publish()` returns with the broker's confirm, as before. Nor does more
of it stand in memory: who publishes waits for the confirm, so each has one message under way.
"""

from typing import Any

from aio_pika import RobustConnection
from aio_pika.abc import AbstractMessage
from aio_pika.exceptions import ChannelInvalidStateError
from aio_pika.robust_channel import RobustChannel
from aio_pika.robust_exchange import RobustExchange


class PipelinedExchange(RobustExchange):
    """Publishes without waiting for the socket, on a channel that confirms."""

    async def publish(self, message: AbstractMessage, routing_key: str, **options: Any) -> Any:
        """Publish a message and wait for its confirm, like `aio_pika.Exchange.publish()`."""
        # Asking a lost connection for its channel would wait until there is another connection.
        if self.channel.is_closed:
            raise ChannelInvalidStateError(f"{self.channel!r} is closed")
        channel = await self.channel.get_underlay_channel()
        return await channel.basic_publish(
            message.body,
            exchange=self.name,
            routing_key=routing_key,
            properties=message.properties,
            wait=False,  # type: ignore[call-arg]  # aiormq's class has it, its interface does not
            **options,
        )


class PipelinedChannel(RobustChannel):
    """A channel with such exchanges."""

    EXCHANGE_CLASS = PipelinedExchange


class PipelinedConnection(RobustConnection):
    """A connection with such channels."""

    CHANNEL_CLASS = PipelinedChannel
