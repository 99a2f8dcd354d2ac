"""What FastStream and aiormq do not offer or document publicly, each use in one function.

Read in FastStream 0.7.8, aio-pika 10.2.1, aiormq 7.2.4 and its pamqp 4.0.1. The tests in
`test_connection.py` and the fault tests fail if one of these uses no longer has its effect.
"""

from contextlib import suppress
from typing import Any, cast

from aio_pika import RobustConnection
from aio_pika.abc import AbstractRobustQueue
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.rabbit.subscriber import RabbitSubscriber
from pamqp.base import BasicProperties

from app.broker.pipelined import PipelinedConnection


async def connect_to(broker: RabbitBroker, url: str) -> PipelinedConnection:
    """Connect a broker to this host, by a pipelined connection, and return the connection.

    FastStream takes one URL, once, when the broker is built, and a cluster has several hosts. It
    has no option for aio-pika's `connection_class` either. Its `connect()` passes
    `_connection_kwargs` to `aio_pika.connect_robust()`. Should that change, a start while the first
    host is down would fail, and so would publishing and closing. A list of URLs in
    `RabbitBroker(url=...)`, or `connect(**options)`, would make this public.
    """
    options = {"url": url, "connection_class": PipelinedConnection}
    broker._connection_kwargs |= options  # noqa: SLF001 (see the docstring)
    return cast("PipelinedConnection", await broker.connect())


def tolerate_odd_properties() -> None:
    """Have a message arrive without those of its properties that pamqp cannot decode.

    RabbitMQ takes any time and any bytes as text. pamqp raises for a time in microseconds, which
    is after the year 9999, and for text that is not UTF-8. aiormq then closes the connection, and
    RabbitMQ delivers the message again, up to its delivery limit, each time with all others that
    the worker holds: one such message had them dead-lettered with it. Nothing here needs the
    properties of a message from elsewhere. Properties that follow an odd one are left out too,
    because nobody knows where they begin. Should `unmarshal()` no longer be called, such a message
    would close the connection again. A pamqp that keeps what it cannot decode as bytes, as it does
    for long strings, would make this superfluous.
    """
    BasicProperties.unmarshal = _unmarshal_what_can_be  # type: ignore[method-assign]


_unmarshal = BasicProperties.unmarshal


def _unmarshal_what_can_be(self: BasicProperties, flags: int, data: bytes) -> None:
    # Any exception: tables within tables, a thousand deep, are a RecursionError.
    with suppress(Exception):
        _unmarshal(self, flags, data)


def is_blocked(connection: RobustConnection) -> bool:
    """Say whether the broker has sent Connection.Blocked, as in a memory or disk alarm.

    aiormq keeps the fact in a private event. `ready()` is public, but waits until the connection
    is unblocked; so its coroutine is run up to its first wait, and whether it waits is the answer.
    Should `ready()` wait for anything else, a connection that works would look blocked. A property
    like amqpstorm's `is_blocked` would make this public; it was asked for in
    https://github.com/mosquito/aio-pika/issues/506.
    """
    if connection.transport is None:
        return False
    waiting = connection.transport.connection.ready()
    try:
        waiting.send(None)
    except StopIteration:
        return False
    waiting.close()
    return True


def subscribers_of(broker: RabbitBroker) -> list[RabbitSubscriber]:
    """Return the broker's subscribers.

    FastStream types `broker.subscribers` as subscribers of any message broker, which have no
    `queue`. A `RabbitBroker.subscribers` with a type of its own would make this superfluous.
    """
    return cast("list[RabbitSubscriber]", broker.subscribers)


async def consumed_queue(broker: RabbitBroker, queue: RabbitQueue) -> AbstractRobustQueue:
    """Return a queue as its subscriber consumes it, on the subscriber's channel.

    `broker.declare_queue()` is public, but not that it returns what it returned before: FastStream
    keeps each queue that it has declared, and a subscriber declares its queue on its own channel.
    Should that change, the queue would be on the publishing channel, which consumes nothing. A
    subscriber's own `_queue_obj` as a public attribute would make this superfluous.
    """
    return await broker.declare_queue(queue)


async def consuming_channel(queue: AbstractRobustQueue) -> Any:
    """Return the `aiormq.Channel` of a consumed queue. Its `consumers` maps tags to callbacks.

    aio-pika documents neither. Should either change, a worker could not see which consumers are
    open, nor cancel all of them. A public list of a channel's consumers would make this
    superfluous.
    """
    return await queue.channel.get_underlay_channel()


async def consume_too(subscriber: RabbitSubscriber, queue: AbstractRobustQueue, tag: str) -> None:
    """Have another consumer of the queue deliver to the subscriber, until its connection is lost.

    `subscriber.consume` is what FastStream's `RabbitSubscriber.start()` passes to `queue.consume()`
    itself, but it is not documented. Should that change, the messages of such a consumer would not
    be handled. An option for the number of consumers would make this superfluous.
    """
    await queue.consume(
        subscriber.consume,  # type: ignore[arg-type]  # FastStream ignores the same
        consumer_tag=tag,
        robust=False,  # not restored by aio-pika
    )
