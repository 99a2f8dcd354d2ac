"""The long-lived connection of a process to RabbitMQ: opened with backoff, then kept open."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from enum import StrEnum
from itertools import count, cycle
from typing import Any

from aio_pika import RobustConnection
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import Channel, RabbitBroker
from loguru import logger
from yarl import URL

from app import __version__
from app.broker.cluster import connection_error_if_closed, describe, first_connection
from app.broker.pipelined import PipelinedConnection
from app.broker.private_api import connect_to, is_blocked, tolerate_odd_properties
from app.broker.topology import Topology, declare
from app.errors import TopologyMismatch
from app.retries import Backoff
from app.runtime import metrics


class ConnectionState(StrEnum):
    """How far the connection is. Messages are published in READY only."""

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


class Role(StrEnum):
    """What a connection is for. A worker has one of each."""

    PUBLISHER = "publisher"
    CONSUMER = "consumer"


STATE_EVENTS = {Role.PUBLISHER: "publisher_state", Role.CONSUMER: "consumer_state"}


def make_broker(
    url: str,
    *,
    service_name: str,
    connect_timeout_seconds: float,
    shutdown_grace_seconds: float,
    **consumer_options: Any,
) -> RabbitBroker:
    """Return a FastStream broker that confirms what it publishes. Nothing connects yet.

    A consumer passes its decoder and middlewares as `consumer_options`.
    """
    tolerate_odd_properties()
    return RabbitBroker(
        url,
        timeout=connect_timeout_seconds,
        # A failed first attempt is raised, so that `BrokerConnection.open` can count it.
        fail_fast=True,
        # The publisher's guarantee rests on these two: the broker confirms each message, and a
        # message that no queue takes is an error. aio-pika's default drops such a message.
        default_channel=Channel(publisher_confirms=True, on_return_raises=True),
        app_id=f"page-metadata-{service_name}/{__version__}",
        graceful_timeout=shutdown_grace_seconds,
        # Without a logger FastStream sets one up that does not write JSON.
        logger=logging.getLogger("faststream.rabbit"),
        log_level=logging.DEBUG,
        # The AsyncAPI document shows this address, so it must not contain the password.
        specification_url=str(URL(url).with_user(None).with_query(None)),
        description="RabbitMQ",
        **consumer_options,
    )


class BrokerConnection:
    """Keeps a `RabbitBroker` connected and its queues declared.

    aio-pika reconnects by itself and restores channels and consumers. This class decides how long
    it waits before each attempt and which host it tries, declares the queues again afterwards,
    and says in the meantime why nothing can be published.
    """

    def __init__(  # noqa: PLR0913 (each is a setting of its own)
        self,
        broker: RabbitBroker,
        topology: Topology,
        *,
        urls: Sequence[str],
        backoff: Backoff,
        declare_timeout_seconds: float,
        role: Role = Role.PUBLISHER,
    ) -> None:
        self.broker = broker
        self.topology = topology
        self._role = role
        self._log = logger.bind(connection=role)
        self._urls = cycle(urls)
        self._backoff = backoff
        self._declare_timeout_seconds = declare_timeout_seconds
        self._state = ConnectionState.DISCONNECTED
        self._reconnect_attempts = 0
        self._missing: tuple[str, ...] = ()
        self._queues_with_room: set[str] = set()
        self._connection: PipelinedConnection | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._dropping: asyncio.Task[None] | None = None

    @property
    def state(self) -> ConnectionState:
        """How far the connection is now."""
        return self._state

    @property
    def is_ready(self) -> bool:
        """Whether messages can be published (or, by a consumer, received) now."""
        return self.why_not_ready() is None

    def why_not_ready(self) -> str | None:
        """Return why no message can be published (or received) now, or None if messages can be."""
        if self._missing:
            return f"missing at the broker: {', '.join(self._missing)}"
        if self._state is not ConnectionState.READY:
            return f"{self._role} is {self._state}"
        if self._connection is not None and is_blocked(self._connection):
            return f"{self._role} is blocked by a resource alarm of the broker"
        return None

    async def open(self) -> None:
        """Connect with backoff and declare the queues.

        Raises `BrokerUnreachable` after the last attempt, `TopologyMismatch` at once.
        """
        await first_connection(self._backoff.schedule(), self._attempt)

    def channel(self) -> AbstractChannel:
        """Return a new channel, for use in `async with`."""
        if self._connection is None:
            raise ConnectionError("not connected")
        return self._connection.channel(publisher_confirms=False)

    def renew(self, reason: str) -> None:
        """Drop a connection that is open but does not work, so that aio-pika reconnects.

        A connection that the broker has blocked is kept: a new one would be blocked too.
        """
        if self.is_ready and self._connection is not None:
            self._note_loss(reason)
            self._dropping = asyncio.create_task(_drop(self._connection, reason))

    def declare_again(self, missing: Sequence[str]) -> None:
        """Declare the queues again, because some are missing, and publish nothing until then."""
        if self.is_ready and self._connection is not None:
            self._log.error("queues_missing", queues=list(missing))
            self._missing = tuple(missing)
            self._reconnect_attempts = 0
            self._move(ConnectionState.RECONNECTING)
            recovering = self._recover(self._connection, "queues_declared_again")
            self._recovery = asyncio.create_task(recovering)

    def note_room(self, names: Iterable[str]) -> None:
        """Note which queues have room for messages, as the broker has just counted them."""
        self._queues_with_room = set(names)

    def note_confirm(self, name: str) -> None:
        """Note that a queue has taken a message: if it refuses the next one, it is full."""
        self._queues_with_room.discard(name)

    def note_refusal(self, name: str) -> None:
        """Renew the connection if a queue refuses a message although it has room.

        RabbitMQ tells each channel once that a queue is full and once that it no longer is. If the
        leader of a quorum queue has changed in between, or a policy with a length limit was
        removed, the channel is not told the second, and refuses every message from then on.
        """
        if name in self._queues_with_room:
            self._queues_with_room.clear()
            self.renew("queue_refuses_with_room")

    def start_closing(self) -> None:
        """Stop accepting messages."""
        self._move(ConnectionState.CLOSING)
        self._stop_recovery()

    async def close(self) -> None:
        """Close channels and connection; a broker that does not answer is not waited for."""
        await self._discard()
        self._move(ConnectionState.CLOSED)

    # --- Opening and closing ---

    async def _attempt(self, scheduled: tuple[int, float]) -> None:
        attempt, delay = scheduled
        await asyncio.sleep(delay)
        self._move(ConnectionState.CONNECTING)
        self._log.info("rmq_connect_attempt", attempt=attempt, delay=delay)
        try:
            with connection_error_if_closed():
                await self._open_once(attempt)
        except CONNECTION_EXCEPTIONS as exc:
            self._log.warning("rmq_connect_failed", attempt=attempt, reason=describe(exc))
            await self._discard()
            raise

    async def _open_once(self, attempt: int) -> None:
        connection = self._connection = await connect_to(self.broker, next(self._urls))
        self._log.info("rmq_connected", attempt=attempt)
        await self._make_ready(connection)
        connection.reconnect_interval = self._backoff.initial
        connection.close_callbacks.add(lambda _, exc=None: self._on_lost(connection, exc))
        connection.reconnect_callbacks.add(lambda _: self._on_reconnected(connection))

    async def _make_ready(self, connection: RobustConnection) -> None:
        # `broker.connect()` has done all three: connected, opened the channel, enabled confirms.
        # After a loss aio-pika restores them together.
        self._move(ConnectionState.CONNECTED)
        self._move(ConnectionState.CHANNEL_OPEN)
        self._move(ConnectionState.CONFIRM_ENABLED)
        # Declaring has no timeout of its own and hangs if the connection is lost meanwhile.
        async with asyncio.timeout(self._declare_timeout_seconds):
            await declare(connection, self.topology, [self.topology.events])
        self._missing = ()
        self._move(ConnectionState.QUEUE_DECLARED)
        self._move(ConnectionState.READY)

    async def _discard(self) -> None:
        await self._close_in_time(self.broker.stop)
        # `broker.stop` closes its channel first. If that fails, it leaves the connection open.
        if self._connection is not None:
            await self._close_in_time(self._connection.close)

    async def _close_in_time(self, close: Callable[[], Awaitable[None]]) -> None:
        """Wait for as long as a declaration may take. After half of that drop the socket.

        Without its socket aiormq closes by itself. With a full one it can't even be cancelled.
        """
        seconds = self._declare_timeout_seconds
        dropping = asyncio.get_running_loop().call_later(seconds / 2, self._drop_socket)
        try:
            with suppress(*CONNECTION_EXCEPTIONS), connection_error_if_closed():
                async with asyncio.timeout(seconds):
                    await close()
        finally:
            dropping.cancel()

    def _drop_socket(self) -> None:
        if self._connection is not None:
            self._connection.drop_socket()

    # --- Losing the connection and getting it back ---

    def _on_lost(self, connection: RobustConnection, exc: BaseException | None) -> None:
        """Set the time and the host of the next attempt to reconnect.

        aio-pika calls this when the connection is lost, and after each attempt that has failed.
        """
        if self._state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return
        self._stop_recovery()
        if self._state is not ConnectionState.RECONNECTING:
            self._note_loss(describe(exc))
        self._reconnect_attempts += 1
        # aio-pika makes the first attempt after a loss at once. Before each later one it sleeps
        # for `reconnect_interval`, which it reads anew each time, as it does `url`.
        failed = self._reconnect_attempts - 1
        connection.reconnect_interval = self._backoff.delay(max(failed, 1))
        connection.url = URL(next(self._urls))
        delay = self._backoff.delay(failed) if failed else 0.0
        self._log.info("rmq_reconnect_attempt", attempt=self._reconnect_attempts, delay=delay)

    def _note_loss(self, reason: str) -> None:
        self._log.warning("rmq_connection_lost", reason=reason)
        self._move(ConnectionState.RECONNECTING)
        self._reconnect_attempts = 0

    def _on_reconnected(self, connection: RobustConnection) -> None:
        if self._state is ConnectionState.RECONNECTING:
            connection.reconnect_interval = self._backoff.initial
            recovering = self._recover(connection, "rmq_reconnected")
            self._recovery = asyncio.create_task(recovering)

    async def _recover(self, connection: RobustConnection, event: str) -> None:
        """Declare the queues again, with as many attempts as it takes; then log `event`."""
        for attempt in count(1):
            try:
                with connection_error_if_closed():
                    await self._make_ready(connection)
            except (TopologyMismatch, *CONNECTION_EXCEPTIONS) as exc:
                self._log.error("rmq_connect_failed", attempt=attempt, reason=describe(exc))
                self._move(ConnectionState.RECONNECTING)
                await asyncio.sleep(self._backoff.delay(attempt))
            else:
                break
        self._log.info(event, attempt=self._reconnect_attempts)

    def _stop_recovery(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None

    def _move(self, state: ConnectionState) -> None:
        if state is not self._state:
            self._log.info(STATE_EVENTS[self._role], **{"from": self._state, "to": state})
            self._state = state
            if self._role is Role.PUBLISHER:
                metrics.PUBLISHER_STATE.state(state)


async def _drop(connection: RobustConnection, reason: str) -> None:
    # Not `connection.close()`, after which aio-pika does not reconnect.
    if connection.transport is not None:
        with suppress(*CONNECTION_EXCEPTIONS):
            await connection.transport.close(ConnectionError(reason))
