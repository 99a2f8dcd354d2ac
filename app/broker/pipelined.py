"""Messages that are published at once go to the broker together.

aio-pika's own exchange waits until the bytes of a message have been handed to the socket, and no
other message can be published on the channel meanwhile. So each message takes a turn of the event
loop and a packet of its own, however many wait. Without that wait an event costs a worker 0.2 ms of
CPU less and RabbitMQ 0.1 ms less (measured with aiormq 7.2.4).

Nothing is promised earlier: `publish()` returns with the broker's confirm, as before.
"""

import asyncio
from typing import Any

from aio_pika import RobustConnection
from aio_pika.abc import AbstractMessage
from aio_pika.exceptions import ChannelInvalidStateError
from aio_pika.robust_channel import RobustChannel
from aio_pika.robust_exchange import RobustExchange
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

MAX_UNCONFIRMED = 100
"""With so many messages unconfirmed each further one waits for the socket, as aio-pika's do. While
a broker reads nothing, most are given up there, so that they are not sent when it reads again."""


class PipelinedExchange(RobustExchange):
    """Publishes without waiting for the socket, on a channel that confirms."""

    async def publish(self, message: AbstractMessage, routing_key: str, **options: Any) -> Any:
        """Publish a message and wait for its confirm, like `aio_pika.Exchange.publish()`."""
        # Asking a lost connection for its channel would wait until there is another connection.
        if self.channel.is_closed:
            raise ChannelInvalidStateError(f"{self.channel!r} is closed")
        # typed as its interface, which lacks some of what the class has
        channel: Any = await self.channel.get_underlay_channel()
        return await channel.basic_publish(
            message.body,
            exchange=self.name,
            routing_key=routing_key,
            properties=message.properties,
            wait=len(channel.confirmations) >= MAX_UNCONFIRMED,
            **options,
        )


class PipelinedChannel(RobustChannel):
    """A channel with such exchanges."""

    EXCHANGE_CLASS = PipelinedExchange


class PipelinedConnection(RobustConnection):
    """A connection with such channels, whose socket can be dropped."""

    CHANNEL_CLASS = PipelinedChannel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._socket = _Socket()
        self.kwargs["transport_factory"] = self._socket  # goes to `aiormq.connect()`

    def drop_socket(self) -> None:
        """Close the socket at once, whatever is still to be written to it.

        While a broker reads nothing and the socket is full, aiormq can't close a connection: it
        waits for the socket, and does not end if it is cancelled.
        """
        if self._socket.writer is not None:
            self._socket.writer.transport.abort()


class _Socket(TransportFactory):
    """Connects as aiormq does by itself, and keeps the writer of the latest connection."""

    writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, self.writer = await factory.create(url, **options)
        return reader, self.writer
