"""The hosts of a RabbitMQ cluster, and a connection to the first one that answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractRobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from yarl import URL

from app.broker.private_api import tolerate_odd_properties
from app.errors import BrokerUnreachable

AttemptT = TypeVar("AttemptT")
ConnectionT = TypeVar("ConnectionT")
OpenT = TypeVar("OpenT", bound=AbstractConnection)

HEARTBEAT_SECONDS = 10
"""How often to exchange heartbeats, unless the URL says otherwise.

aiormq gives up a silent peer after three missed heartbeats: half a minute. With RabbitMQ's default
of 60 seconds it would take three minutes.
"""


def broker_urls(url: str, *, connection_name: str | None = None) -> tuple[str, ...]:
    """Return one URL for each host of `amqp://user:password@host1:5672,host2:5672/vhost`.

    Each sets `HEARTBEAT_SECONDS` and the name by which RabbitMQ lists the connection, unless it
    has a `heartbeat` and a `name` of its own.
    """
    defaults: dict[str, int | str] = {"heartbeat": HEARTBEAT_SECONDS}
    if connection_name is not None:
        defaults["name"] = connection_name
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    one_each = (
        URL(f"{scheme}://{credentials}{at}{host}{slash}{path}") for host in hosts.split(",")
    )
    return tuple(str(one % {**defaults, **one.query}) for one in one_each)


async def first_connection(
    attempts: Iterable[AttemptT], connect: Callable[[AttemptT], Awaitable[ConnectionT]]
) -> ConnectionT:
    """Call `connect` with each attempt until one succeeds, and return its connection.

    What an attempt is, the caller decides: a URL, or its place in a backoff schedule. Raises
    `BrokerUnreachable` with the reason of the last failure.
    """
    failures = []
    for attempt in attempts:
        try:
            return await connect(attempt)
        except CONNECTION_EXCEPTIONS as exc:
            failures.append(describe(exc))
    raise BrokerUnreachable(
        f"RabbitMQ could not be reached in {len(failures)} attempts ({failures[-1]}). "
        "Is it running, and is BROKER_URL right?"
    )


@asynccontextmanager
async def connected(url: str, *, timeout_seconds: float) -> AsyncIterator[AbstractRobustConnection]:
    """Connect for a short task, such as a command of the command line. Nothing is declared.

    `url` may name several hosts; each has `timeout_seconds` to answer. Raises `BrokerUnreachable`,
    also if the connection is lost while it is used.
    """
    async with _connected(url, aio_pika.connect_robust, timeout_seconds) as connection:
        yield connection


@asynccontextmanager
async def connected_once(url: str, *, timeout_seconds: float) -> AsyncIterator[AbstractConnection]:
    """Connect like `connected`, for a task that waits for deliveries.

    A robust connection would be made anew after a loss, and the task would not learn of what it has
    missed meanwhile.
    """
    async with _connected(url, aio_pika.connect, timeout_seconds) as connection:
        yield connection


@asynccontextmanager
async def _connected(
    url: str, connect: Callable[[str], Awaitable[OpenT]], timeout_seconds: float
) -> AsyncIterator[OpenT]:
    async def connect_in_time(host_url: str) -> OpenT:
        # Not `connect(timeout=...)`, which does not bound the wait for a blocked connection.
        async with asyncio.timeout(timeout_seconds):
            return await connect(host_url)

    tolerate_odd_properties()
    connection = await first_connection(broker_urls(url), connect_in_time)
    try:
        with connection_error_if_closed():
            async with connection:
                yield connection
    except CONNECTION_EXCEPTIONS as exc:
        raise BrokerUnreachable(f"the connection to RabbitMQ was lost: {describe(exc)}") from exc


@contextmanager
def connection_error_if_closed() -> Iterator[None]:
    """Raise `ConnectionError` where aiormq raises `CancelledError` because it was closed.

    A connection that closes makes aiormq raise `CancelledError` in whoever waits for an answer,
    as if their own task had been cancelled. A task that really was cancelled stays so.
    """
    try:
        yield
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection was closed") from exc


def describe(exc: BaseException | None) -> str:
    """Return an exception as text for a log line: its type, and its message if it has one."""
    if exc is None:
        return "closed"
    return f"{type(exc).__name__}: {exc}".removesuffix(": ")
