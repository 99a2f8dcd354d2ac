"""Fakes of aio-pika and FastStream, which record calls and never connect."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import aiormq.abc
from aio_pika import RobustConnection
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.publisher import RabbitPublisher
from faststream.rabbit.testing import PatchedMessage
from pamqp import commands
from pamqp.header import ContentHeader
from yarl import URL

from app.broker.connection import BrokerConnection, Role
from app.broker.pipelined import PipelinedConnection
from app.broker.topology import build_topology
from app.retries import Backoff

TOPOLOGY = build_topology(
    queue_name="metadata.requests",
    queue_type="quorum",
    max_length=1000,
    retry_delays_seconds=(5, 30, 120, 600),
)
URLS = ("amqp://one/", "amqp://two/")
BACKOFF = Backoff(initial=1, maximum=30, multiplier=2, attempts=5)


class FakeChannel:
    """Declares queues while the event `answering` is set.

    Each of the next declarations raises one of `answers`, or succeeds where that is None.
    """

    def __init__(self) -> None:
        self.declared: list[str] = []
        self.options: dict[str, dict[str, Any]] = {}
        self.answers: deque[Exception | None] = deque()
        self.answering = asyncio.Event()
        self.answering.set()
        self.missing: set[str] = set()
        self.messages: dict[str, int] = {}
        self.counted = 0
        self.is_open = False

    async def __aenter__(self) -> Self:
        self.is_open = True
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.is_open = False

    async def declare_exchange(self, name: str, kind: Any, **options: Any) -> Any:
        await self.answering.wait()
        answer = self.answers.popleft() if self.answers else None
        if answer is not None:
            raise answer
        self.missing.discard(name)
        self.declared.append(name)
        self.options[name] = {"type": kind, **options}

    async def get_exchange(self, name: str) -> Any:
        await self.answering.wait()
        if name in self.missing:
            raise ChannelNotFoundEntity(f"no exchange '{name}'")

    async def declare_queue(self, name: str, *, passive: bool = False, **options: Any) -> Any:
        await self.answering.wait()
        answer = self.answers.popleft() if self.answers else None
        if answer is not None:
            raise answer
        if passive:
            return self._counts(name)
        self.missing.discard(name)
        self.declared.append(name)
        self.options[name] = options
        return None

    def _counts(self, name: str) -> Any:
        if name in self.missing:
            raise ChannelNotFoundEntity(f"no queue '{name}'")
        self.counted += 1
        messages = self.messages.get(name, 0)
        counts = commands.Queue.DeclareOk(name, message_count=messages, consumer_count=0)
        return SimpleNamespace(declaration_result=counts)


class FakeTransport:
    """aio-pika's `UnderlayConnection` and aiormq's connection in one.

    While the event `unblocked` is not set, the broker has blocked the connection.
    """

    def __init__(self) -> None:
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.closed_with: list[BaseException] = []

    @property
    def connection(self) -> Self:
        return self

    async def ready(self) -> None:
        await self.unblocked.wait()

    async def close(self, exc: BaseException) -> None:
        self.closed_with.append(exc)


class FakeConnection(PipelinedConnection):
    """aio-pika's connection. `lose()` and `reconnect()` call what aio-pika then calls."""

    def __init__(self) -> None:
        super().__init__(URL("amqp://nowhere/"))
        self.socket_dropped = asyncio.Event()
        self.queues = FakeChannel()
        self.fake_transport = FakeTransport()
        self.transport = self.fake_transport  # type: ignore[assignment]  # a fake

    def channel(self, *_arguments: Any, **_options: Any) -> Any:
        return self.queues

    def drop_socket(self) -> None:
        self.socket_dropped.set()

    async def lose(self, exc: BaseException | None = None) -> None:
        await self.close_callbacks(exc)

    async def reconnect(self) -> None:
        await self.reconnect_callbacks()


class FakeBroker(RabbitBroker):
    """A broker whose first connection attempts fail with `failures`; the next one succeeds."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__("amqp://nowhere/")
        self.failures = deque(failures)
        self.connection = FakeConnection()
        self.tried: list[str] = []
        self.is_stopped = False
        self.stop_failure: BaseException | None = None

    async def connect(self) -> RobustConnection:
        self.tried.append(str(self._connection_kwargs["url"]))  # what `connect_to()` has set
        if self.failures:
            raise self.failures.popleft()
        return self.connection

    async def stop(self, *_exception: Any) -> None:
        self.is_stopped = True
        if self.stop_failure:
            raise self.stop_failure


def a_connection(
    broker: RabbitBroker,
    *,
    declare_timeout_seconds: float = 10,
    role: Role = Role.PUBLISHER,
) -> BrokerConnection:
    return BrokerConnection(
        broker,
        TOPOLOGY,
        urls=URLS,
        backoff=BACKOFF,
        declare_timeout_seconds=declare_timeout_seconds,
        role=role,
    )


class FakeDestination(RabbitPublisher):
    """A queue to publish to.

    `answer` is called for every message. It may raise, or return an event that stands for the
    confirm; without one the message is confirmed at once.
    """

    def __init__(self, answer: Callable[[], asyncio.Event | None] = lambda: None) -> None:
        self.queue = RabbitQueue("metadata.requests")
        self.exchange = RabbitExchange()
        self.answer = answer
        self.sent: list[dict[str, Any]] = []
        self.confirmed = 0

    async def publish(self, message: Any, *_arguments: Any, **options: Any) -> None:
        self.sent.append({"body": message, **options})
        confirm = self.answer()
        if confirm is not None:
            await confirm.wait()
        self.confirmed += 1


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition is true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (the condition has no event to wait for)
            await asyncio.sleep(0)


def queue_full() -> DeliveryError:
    return DeliveryError(None, commands.Basic.Nack(delivery_tag=1))


def unroutable() -> PublishError:
    returned = commands.Basic.Return(312, "NO_ROUTE", "", "metadata.requests")
    message = aiormq.abc.DeliveredMessage(
        delivery=returned,
        header=ContentHeader(),
        body=b"",
        channel=None,  # type: ignore[arg-type]  # the channel is not used
    )
    return PublishError(message, returned)


class DeliveredMessage(PatchedMessage):
    """A message as aio-pika delivers it. It records how it was settled."""

    def __init__(
        self,
        body: bytes,
        *,
        headers: dict[str, Any] | None = None,
        redelivered: bool = False,
        content_type: str | None = "application/json",
    ) -> None:
        super().__init__(
            aiormq.abc.DeliveredMessage(
                delivery=commands.Basic.Deliver(
                    delivery_tag=1, redelivered=redelivered, routing_key="metadata.requests"
                ),
                header=ContentHeader(
                    properties=commands.Basic.Properties(
                        content_type=content_type,
                        headers=headers or {},
                        message_id="a-message",
                        correlation_id="a-request",
                    )
                ),
                body=body,
                channel=None,  # type: ignore[arg-type]  # settling is recorded, not sent
            )
        )
        self.settled: list[str] = []
        self.settling_fails: Exception | None = None

    async def ack(self, multiple: bool = False) -> None:  # noqa: FBT001, FBT002 (as in aio-pika)
        self._settle("all acknowledged" if multiple else "acknowledged")

    async def nack(self, multiple: bool = False, requeue: bool = True) -> None:  # noqa: FBT001, FBT002 (as in aio-pika)
        self._settle(f"nacked {multiple=} {requeue=}")

    async def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 (as in aio-pika)
        self._settle("requeued" if requeue else "rejected")

    def _settle(self, how: str) -> None:
        if self.settling_fails is not None:
            raise self.settling_fails
        self.settled.append(how)
