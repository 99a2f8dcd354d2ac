"""The connection to RabbitMQ: opened with backoff, kept open, and honest about its state."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import count, cycle
from typing import Any

from aio_pika import RobustConnection
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractRobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import Channel, RabbitBroker
from loguru import logger
from yarl import URL

from app import __version__
from app.broker.topology import Topology, declare
from app.errors import BrokerUnreachable, TopologyMismatch
from app.retries import Backoff
from app.runtime import metrics

HEARTBEAT_SECONDS = 10
"""How often to exchange heartbeats unless the URL says otherwise; a silent peer is given up
after about three of them, where the default of 60 would need three minutes."""


class ConnectionState(StrEnum):
    """How far the connection is; messages are published in READY alone."""

    DISCONNECTED = "DISCONNECTED"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    CHANNEL_OPEN = "CHANNEL_OPEN"
    CONFIRM_ENABLED = "CONFIRM_ENABLED"
    QUEUE_DECLARED = "QUEUE_DECLARED"
    READY = "READY"
    RECONNECTING = "RECONNECTING"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"


ON_THE_WAY_TO_READY = (
    ConnectionState.CONNECTED,
    ConnectionState.CHANNEL_OPEN,
    ConnectionState.CONFIRM_ENABLED,
)
"""Passed in one step: FastStream connects and opens its publishing channel in confirm mode at
once, and aio-pika restores both together."""


def broker_urls(url: str) -> tuple[str, ...]:
    """Return one URL for each host of `amqp://user:password@host1:5672,host2:5672/vhost`.

    Each asks for our heartbeat unless it names one itself.
    """
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    one_each = (
        URL(f"{scheme}://{credentials}{at}{host}{slash}{path}") for host in hosts.split(",")
    )
    return tuple(str(one % {"heartbeat": HEARTBEAT_SECONDS, **one.query}) for one in one_each)


@contextmanager
def loss_told_from_cancellation() -> Iterator[None]:
    """Raise `ConnectionError` where a connection that is torn down cancels those who wait for it.

    aiormq gives them `CancelledError`, as if their own task had been cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection was torn down") from exc


def make_broker(
    url: str,
    *,
    service_name: str,
    connect_timeout_seconds: float,
    shutdown_grace_seconds: float,
    **consumer_options: Any,
) -> RabbitBroker:
    """Return a broker with the options that every guarantee of the publisher rests on.

    A consumer adds its decoder and middlewares.
    """
    return RabbitBroker(
        url,
        timeout=connect_timeout_seconds,
        fail_fast=True,
        default_channel=Channel(publisher_confirms=True, on_return_raises=True),
        app_id=f"page-metadata-{service_name}/{__version__}",
        graceful_timeout=shutdown_grace_seconds,
        # FastStream would configure a logger of its own, in a format of its own.
        logger=logging.getLogger("faststream.rabbit"),
        log_level=logging.DEBUG,
        specification_url=str(URL(url).with_user(None).with_query(None)),
        description="RabbitMQ",
        **consumer_options,
    )


class BrokerConnection:
    """Keeps a `RabbitBroker` connected and its queues declared."""

    def __init__(
        self,
        broker: RabbitBroker,
        topology: Topology,
        *,
        urls: Sequence[str],
        backoff: Backoff,
        declare_timeout_seconds: float,
    ) -> None:
        self.broker = broker
        self.topology = topology
        self._urls = cycle(urls)
        self._backoff = backoff
        self._declare_timeout_seconds = declare_timeout_seconds
        self._state = ConnectionState.DISCONNECTED
        self._reconnect_attempts = 0
        self._connection: RobustConnection | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def state(self) -> ConnectionState:
        """How far the connection is at this moment."""
        return self._state

    @property
    def is_ready(self) -> bool:
        """Whether messages can be published at this moment."""
        return self.why_not_ready() is None

    def why_not_ready(self) -> str | None:
        """Return what keeps messages from being published, None if nothing does."""
        if self._state is not ConnectionState.READY:
            return f"publisher is {self._state}"
        if self._connection is not None and _is_blocked(self._connection):
            return "publisher is blocked by a resource alarm of the broker"
        return None

    async def open(self) -> None:
        """Connect with backoff and declare the queues.

        Raises `BrokerUnreachable` after the last attempt and `TopologyMismatch` at once.
        """
        reason = "no attempt was made"
        for attempt, delay in self._backoff.schedule():
            await asyncio.sleep(delay)
            self._move(ConnectionState.CONNECTING)
            logger.info("rmq_connect_attempt", attempt=attempt, delay=delay)
            try:
                with loss_told_from_cancellation():
                    await self._open_once(attempt)
            except CONNECTION_EXCEPTIONS as exc:
                reason = describe(exc)
                logger.warning("rmq_connect_failed", attempt=attempt, reason=reason)
                await self._discard()
            else:
                return
        raise BrokerUnreachable(
            f"RabbitMQ could not be reached in {self._backoff.attempts} attempts ({reason}). "
            "Is it running, and is BROKER_URL right?"
        )

    def channel(self) -> AbstractChannel:
        """Return a channel for a short errand, to be used as a context manager."""
        if self._connection is None:
            raise ConnectionError("not connected")
        return self._connection.channel(publisher_confirms=False)

    def renew(self, reason: str) -> None:
        """Give up a connection that is open but does not work; aio-pika makes a new one.

        One that the broker has blocked is kept: it works again when the alarm is over.
        """
        if self.is_ready and self._connection is not None:
            self._note_loss(reason)
            self._renewal = asyncio.create_task(_drop(self._connection, reason))

    def declare_again(self) -> None:
        """Publish nothing until the queues are declared: one of them has gone missing."""
        if self.is_ready and self._connection is not None:
            self._move(ConnectionState.RECONNECTING)
            self._recovery = asyncio.create_task(self._recover(self._connection))

    def start_closing(self) -> None:
        """Accept no further messages."""
        self._move(ConnectionState.CLOSING)
        self._stop_recovery()

    async def close(self) -> None:
        """Close the channels, then the connection; a broker that does not answer is left alone."""
        await self._discard()
        self._move(ConnectionState.CLOSED)

    async def _open_once(self, attempt: int) -> None:
        # FastStream takes its URL once; the next host of a cluster is tried in its place.
        self.broker._connection_kwargs["url"] = next(self._urls)  # noqa: SLF001
        connection = self._connection = await self.broker.connect()
        logger.info("rmq_connected", attempt=attempt)
        await self._make_ready(connection)
        connection.reconnect_interval = self._backoff.initial
        connection.close_callbacks.add(self._on_lost)
        connection.reconnect_callbacks.add(self._on_reconnected)

    async def _discard(self) -> None:
        """Close whatever is open, each within a time."""
        await self._in_time(self.broker.stop)
        if self._connection is not None:  # which a channel that does not close leaves open
            await self._in_time(self._connection.close)

    async def _in_time(self, close: Callable[[], Awaitable[None]]) -> None:
        with suppress(*CONNECTION_EXCEPTIONS), loss_told_from_cancellation():
            async with asyncio.timeout(self._declare_timeout_seconds):
                await close()

    async def _make_ready(self, connection: AbstractConnection) -> None:
        for state in ON_THE_WAY_TO_READY:
            self._move(state)
        async with asyncio.timeout(self._declare_timeout_seconds):
            await declare(connection, self.topology)
        self._move(ConnectionState.QUEUE_DECLARED)
        self._move(ConnectionState.READY)

    def _on_lost(self, sender: AbstractConnection | None, exc: BaseException | None = None) -> None:
        """Follow aio-pika, which calls this for the loss and for every failed attempt since."""
        if self._state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return
        self._stop_recovery()
        if self._state is not ConnectionState.RECONNECTING:
            self._note_loss(describe(exc))
        self._reconnect_attempts += 1
        # The attempt after a loss is made at once; aio-pika reads the interval before the next.
        past = self._reconnect_attempts - 1
        delay = self._backoff.delay(past) if past else 0.0
        if isinstance(sender, RobustConnection):
            sender.reconnect_interval = delay or self._backoff.initial
            sender.url = URL(next(self._urls))
        logger.info("rmq_reconnect_attempt", attempt=self._reconnect_attempts, delay=delay)

    def _note_loss(self, reason: str) -> None:
        logger.warning("rmq_connection_lost", reason=reason)
        self._move(ConnectionState.RECONNECTING)
        self._reconnect_attempts = 0

    def _on_reconnected(self, sender: AbstractRobustConnection | None) -> None:
        reconnecting = self._state is ConnectionState.RECONNECTING
        if reconnecting and isinstance(sender, RobustConnection):
            sender.reconnect_interval = self._backoff.initial
            self._recovery = asyncio.create_task(self._recover(sender))

    async def _recover(self, connection: AbstractRobustConnection) -> None:
        """Declare the queues again, however long that takes, before anything is published."""
        for attempt in count(1):
            try:
                with loss_told_from_cancellation():
                    await self._make_ready(connection)
            except (TopologyMismatch, *CONNECTION_EXCEPTIONS) as exc:
                logger.error("rmq_connect_failed", attempt=attempt, reason=describe(exc))
                self._move(ConnectionState.RECONNECTING)
                await asyncio.sleep(self._backoff.delay(attempt))
            else:
                break
        logger.info("rmq_reconnected", attempt=self._reconnect_attempts)

    def _stop_recovery(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None

    def _move(self, state: ConnectionState) -> None:
        if state is not self._state:
            logger.info("publisher_state", **{"from": self._state, "to": state})
            self._state = state
            metrics.PUBLISHER_STATE.state(state)


def _is_blocked(connection: RobustConnection) -> bool:
    """Say whether the broker has sent Connection.Blocked, and has not taken it back.

    aiormq tells of it only by `ready()`, which then waits: one step shows whether it would.
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


async def _drop(connection: RobustConnection, reason: str) -> None:
    if connection.transport is not None:
        with suppress(*CONNECTION_EXCEPTIONS):
            await connection.transport.connection.close(ConnectionError(reason))


def describe(exc: BaseException | None) -> str:
    """Return an exception in words that fit a log line."""
    if exc is None:
        return "closed"
    return f"{type(exc).__name__}: {exc}".removesuffix(": ")
