"""Stand-ins for aio-pika and FastStream: they remember what they are asked and never connect."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import aiormq.abc
from aio_pika import RobustConnection
from aio_pika.exceptions import DeliveryError, PublishError
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.rabbit.publisher import RabbitPublisher
from faststream.rabbit.testing import PatchedMessage
from pamqp import commands
from pamqp.header import ContentHeader
from yarl import URL

from app.broker.connection import BrokerConnection
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
    """Declares queues while `answering`.

    The `answers` are raised by the next declarations; None lets one pass.
    """

    def __init__(self) -> None:
        self.declared: list[str] = []
        self.options: dict[str, dict[str, Any]] = {}
        self.answers: deque[Exception | None] = deque()
        self.answering = asyncio.Event()
        self.answering.set()
        self.is_open = False

    async def __aenter__(self) -> Self:
        self.is_open = True
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.is_open = False

    async def declare_queue(self, name: str, **options: Any) -> None:
        await self.answering.wait()
        answer = self.answers.popleft() if self.answers else None
        if answer is not None:
            raise answer
        self.declared.append(name)
        self.options[name] = options


class FakeLink:
    """aiormq's connection, as far as we look at it."""

    def __init__(self) -> None:
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.closed_for: list[BaseException] = []

    async def ready(self) -> None:
        await self.allowed.wait()

    async def close(self, exc: BaseException) -> None:
        self.closed_for.append(exc)


@dataclass
class FakeTransport:
    connection: FakeLink

    async def close(self, exc: BaseException) -> None:
        await self.connection.close(exc)


class FakeConnection(RobustConnection):
    """aio-pika's connection, never connected; `lose()` and `return_again()` are what it calls."""

    def __init__(self) -> None:
        super().__init__(URL("amqp://nowhere/"))
        self.queues = FakeChannel()
        self.link = FakeLink()
        self.transport = FakeTransport(self.link)  # type: ignore[assignment]  # a stand-in

    def channel(self, *_arguments: Any, **_options: Any) -> Any:
        return self.queues

    async def lose(self, exc: BaseException | None = None) -> None:
        await self.close_callbacks(exc)

    async def return_again(self) -> None:
        await self.reconnect_callbacks()


class FakeBroker(RabbitBroker):
    """A broker that fails to connect with each of `failures`, then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__("amqp://nowhere/")
        self.failures = deque(failures)
        self.connection = FakeConnection()
        self.tried: list[str] = []
        self.is_stopped = False
        self.stop_failure: BaseException | None = None

    async def connect(self) -> RobustConnection:
        self.tried.append(str(self._connection_kwargs["url"]))
        if self.failures:
            raise self.failures.popleft()
        return self.connection

    async def stop(self, *_exception: Any) -> None:
        self.is_stopped = True
        if self.stop_failure:
            raise self.stop_failure


def a_connection(broker: RabbitBroker, *, declare_timeout_seconds: float = 10) -> BrokerConnection:
    return BrokerConnection(
        broker,
        TOPOLOGY,
        urls=URLS,
        backoff=BACKOFF,
        declare_timeout_seconds=declare_timeout_seconds,
    )


class FakeDestination(RabbitPublisher):
    """A queue to publish to; `fate` decides what becomes of each message.

    It is called for every message and may raise, or return an event to wait for as one waits
    for a confirm.
    """

    def __init__(self, fate: Callable[[], asyncio.Event | None] = lambda: None) -> None:
        self.queue = RabbitQueue("metadata.requests")
        self.fate = fate
        self.sent: list[dict[str, Any]] = []
        self.confirmed = 0

    async def publish(self, message: Any, *_arguments: Any, **options: Any) -> None:
        self.sent.append({"body": message, **options})
        event = self.fate()
        if event is not None:
            await event.wait()
        self.confirmed += 1


async def until(holds: Callable[[], bool]) -> None:
    """Let other tasks run until something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0)


def queue_full() -> DeliveryError:
    return DeliveryError(None, commands.Basic.Nack(delivery_tag=1))


def unroutable() -> PublishError:
    returned = commands.Basic.Return(312, "NO_ROUTE", "", "metadata.requests")
    message = aiormq.abc.DeliveredMessage(
        delivery=returned,
        header=ContentHeader(),
        body=b"",
        channel=None,  # type: ignore[arg-type]  # nothing is done with it
    )
    return PublishError(message, returned)


class DeliveredMessage(PatchedMessage):
    """A message as aio-pika hands it over; it remembers how it was settled."""

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
