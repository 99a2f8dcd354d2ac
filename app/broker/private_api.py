"""What FastStream and aiormq do not offer publicly, each use with the version it was read in.

Read in FastStream 0.7.8, aio-pika 10.2.1 and aiormq 7.2.4. The tests in `test_connection.py` and
the fault tests fail if one of these uses no longer has its effect.
"""

from aio_pika import RobustConnection
from faststream.rabbit import RabbitBroker


def connect_to(broker: RabbitBroker, url: str) -> None:
    """Have the next `broker.connect()` go to this host.

    FastStream takes one URL, once, when the broker is built, and a cluster has several hosts.
    Its `_connect()` passes `_connection_kwargs` to `aio_pika.connect_robust()`. Should that change,
    a start while the first host is down would fail. A list of URLs in `RabbitBroker(url=...)`, or
    `connect(url=...)`, would make this public.
    """
    broker._connection_kwargs["url"] = url  # noqa: SLF001 (see the docstring)


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
