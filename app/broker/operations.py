"""What each process sends and receives: declared once, for the processes and for the contract.

The processes publish and subscribe through what is declared here, and the AsyncAPI documents are
generated from it. A `title` is the operation's name there, a `description` its summary.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue
from faststream.rabbit.publisher import RabbitPublisher

from app.broker.messages import CONTENT_TYPE, MESSAGE_TYPE, MetadataRequested
from app.broker.topology import Topology, delay_label

Handle = Callable[[MetadataRequested, RabbitMessage], Awaitable[None]]


def request_destination(broker: RabbitBroker, topology: Topology) -> RabbitPublisher:
    """Return where the API sends new requests."""
    return _destination(
        broker,
        topology.requests,
        title="requestMetadata",
        description="Ask for a page to be fetched.",
    )


def retry_destinations(broker: RabbitBroker, topology: Topology) -> dict[float, RabbitPublisher]:
    """Return where a worker sends retries, by their delay in seconds."""
    return {
        seconds: _destination(
            broker,
            queue,
            title=f"retryIn{delay_label(seconds)}",
            description=f"Ask for a page to be fetched again in {delay_label(seconds)}.",
        )
        for seconds, queue in topology.retry_delays.items()
    }


def _destination(
    broker: RabbitBroker, queue: RabbitQueue, *, title: str, description: str
) -> RabbitPublisher:
    return broker.publisher(
        queue,
        mandatory=True,
        persist=True,
        content_type=CONTENT_TYPE,
        message_type=MESSAGE_TYPE,
        schema=MetadataRequested,
        title=title,
        description=description,
    )


def subscribe(broker: RabbitBroker, topology: Topology, handle: Handle, *, qos: int) -> None:
    """Have a worker take new requests, and retries that are due, on a channel of their own.

    `qos` bounds the unacknowledged messages of each; publishing has another channel.
    """
    channel = Channel(prefetch_count=qos)
    subscribed_to = partial(
        broker.subscriber, channel=channel, ack_policy=AckPolicy.MANUAL, no_reply=True
    )
    requests = subscribed_to(
        topology.requests,
        title="collectMetadata",
        description="Fetch a page that was asked for.",
    )
    retries = subscribed_to(
        topology.retries,
        title="collectMetadataAgain",
        description="Fetch a page again, after its delay.",
    )

    @requests
    @retries
    async def collect_metadata(body: MetadataRequested) -> None:
        # As a parameter the message would come by way of a thread: FastDepends asks for it there.
        await handle(body, broker.context.get_local("message"))
