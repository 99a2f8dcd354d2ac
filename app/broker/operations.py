"""What each process sends and receives, declared once for the processes and for the contract.

The processes publish and subscribe through these declarations, and the AsyncAPI documents are
generated from them. A `title` is the name of the operation in those documents;
`app/contract/overlay.yaml` has the text for it.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue
from faststream.rabbit.publisher import RabbitPublisher

from app.broker.events import CONTENT_TYPE as EVENT_CONTENT_TYPE
from app.broker.events import PageEventMessage, event_type, routing_key
from app.broker.messages import CONTENT_TYPE, MESSAGE_TYPE, MetadataRequested
from app.broker.topology import Topology, delay_label
from app.models import EventKind

Handle = Callable[[MetadataRequested, RabbitMessage], Awaitable[None]]


def request_destination(broker: RabbitBroker, topology: Topology) -> RabbitPublisher:
    """Return where the API sends new requests."""
    return _destination(broker, topology.requests, title="requestMetadata")


def retry_destinations(broker: RabbitBroker, topology: Topology) -> dict[float, RabbitPublisher]:
    """Return where a worker sends retries, by their delay in seconds."""
    return {
        seconds: _destination(broker, queue, title=f"retryIn{delay_label(seconds)}")
        for seconds, queue in topology.retry_delays.items()
    }


def event_destinations(
    broker: RabbitBroker, topology: Topology, kinds: Iterable[EventKind]
) -> dict[EventKind, RabbitPublisher]:
    """Return where a process sends the events of these kinds.

    They are not mandatory: nobody has to listen.
    """
    return {
        kind: broker.publisher(
            exchange=topology.events,
            routing_key=routing_key(kind),
            mandatory=False,
            persist=True,
            content_type=EVENT_CONTENT_TYPE,
            message_type=event_type(kind),
            schema=PageEventMessage,
            title=f"tellPage{kind.capitalize()}",
        )
        for kind in kinds
    }


def _destination(broker: RabbitBroker, queue: RabbitQueue, *, title: str) -> RabbitPublisher:
    return broker.publisher(
        queue,
        mandatory=True,
        persist=True,
        content_type=CONTENT_TYPE,
        message_type=MESSAGE_TYPE,
        schema=MetadataRequested,
        title=title,
    )


def subscribe(broker: RabbitBroker, topology: Topology, handle: Handle, *, qos: int) -> None:
    """Have a worker take new requests, and retries that are due, on a channel of their own.

    `qos` bounds the unacknowledged messages of each queue. Publishing has another channel.
    """
    channel = Channel(prefetch_count=qos)
    subscribed_to = partial(
        broker.subscriber, channel=channel, ack_policy=AckPolicy.MANUAL, no_reply=True
    )

    @subscribed_to(topology.requests, title="collectMetadata")
    @subscribed_to(topology.retries, title="collectMetadataAgain")
    async def collect_metadata(body: MetadataRequested) -> None:
        # FastDepends would resolve the message in a thread if it were a parameter.
        await handle(body, broker.context.get_local("message"))
