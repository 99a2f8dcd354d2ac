"""Publishing: a message is confirmed by the broker, or an error says why it was not."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import monotonic, perf_counter
from uuid import uuid4

from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelNotFoundEntity,
    DeliveryError,
    PublishError,
)
from faststream.rabbit import RabbitBroker
from faststream.rabbit.publisher import RabbitPublisher
from loguru import logger
from pamqp.common import FieldValue

from app import errors
from app.broker.cluster import connection_error_if_closed
from app.broker.connection import BrokerConnection
from app.broker.events import PageEventMessage
from app.broker.messages import DEFERRALS_HEADER, MetadataRequested
from app.broker.operations import event_destinations, request_destination, retry_destinations
from app.broker.topology import Topology
from app.errors import PublishFault
from app.models import EventKind, PageEvent, PageRequest
from app.retries import REFUSED_RETRY
from app.runtime import metrics

Headers = dict[str, FieldValue]

FULL_AFTER_SECONDS = 15.0
"""After how long a queue of a listener that refuses events counts as full.

A quorum queue refuses too, for some seconds, while it has lost its leader and has no other one yet.
"""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published. `about` goes into its log line."""

    body: bytes
    message_id: str
    correlation_id: str
    about: dict[str, object]
    headers: Headers = field(default_factory=dict)

    is_event: bool = False
    """Whether the message is for listeners. Its success is not logged, since the outcome is. If no
    confirm comes, the cause may be a listener's queue, so the connection is not taken for dead."""


class ConfirmedPublisher:
    """Publishes messages that are persistent and confirmed, or raises.

    Many messages wait for their confirms at once; a lock held until the confirm would make
    publishing 3 to 5 times slower. None is needed: nothing is awaited between the check that the
    connection is ready and the count of publishes in flight, for which `close` waits.
    """

    def __init__(self, connection: BrokerConnection, *, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._last_confirm = 0.0
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def broker(self) -> RabbitBroker:
        """The FastStream broker on which publishers are declared."""
        return self._connection.broker

    async def close(self) -> None:
        """Refuse new messages, wait for those in flight, then close channel and connection."""
        self._connection.start_closing()
        await self._idle.wait()
        await self._connection.close()
        logger.info("publisher_shutdown")

    async def send(self, destination: RabbitPublisher, message: Outgoing) -> None:
        """Publish a message and wait for the broker's confirm.

        Raises `PublisherNotReady` if nothing was sent, `PublishFailed` if it may have been.
        """
        target = destination_name(destination)
        with _recorded(message, target):
            self._require_ready()
            with self._counted_in_flight():
                await self._publish(destination, message, target)

    def _require_ready(self) -> None:
        if not self._connection.is_ready:
            raise errors.PublisherNotReady(PublishFault.NOT_READY)

    @contextmanager
    def _counted_in_flight(self) -> Iterator[None]:
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _publish(self, destination: RabbitPublisher, message: Outgoing, target: str) -> None:
        started = perf_counter()
        try:
            # FastStream's `timeout=` does not bound the wait for the confirm.
            async with asyncio.timeout(self._timeout_seconds):
                with connection_error_if_closed():
                    await destination.publish(
                        message.body,
                        message_id=message.message_id,
                        correlation_id=message.correlation_id,
                        headers=message.headers,
                    )
        except TimeoutError as exc:
            # If no message was confirmed since, the connection may be dead, so it is renewed.
            # Otherwise only this queue is at fault.
            if self._last_confirm < started and not message.is_event:
                self._connection.renew("confirm_timeout")
            raise errors.PublishFailed(PublishFault.CONFIRM_TIMEOUT) from exc
        except (PublishError, ChannelNotFoundEntity) as exc:
            # There is no queue, or no exchange, of that name: somebody has deleted it.
            self._connection.declare_again([target])
            raise errors.PublishFailed(PublishFault.UNROUTABLE) from exc
        except DeliveryError as exc:
            self._connection.note_refusal(target)
            raise errors.PublishFailed(PublishFault.QUEUE_REJECTED) from exc
        except CONNECTION_EXCEPTIONS as exc:
            raise errors.PublishFailed(PublishFault.CONNECTION_LOST) from exc
        self._last_confirm = perf_counter()
        self._connection.note_confirm(target)


def destination_name(destination: RabbitPublisher) -> str:
    """Return the name of the exchange or, if that is the default one, of the queue."""
    return destination.exchange.name or destination.queue.name


@contextmanager
def _recorded(message: Outgoing, target: str) -> Iterator[None]:
    """Time, count and log one publish, whatever its outcome."""
    started = perf_counter()
    outcome = "cancelled"  # unless one of the lines below says otherwise
    try:
        yield
        outcome = "success"
    except errors.PublishError as exc:
        outcome = exc.reason
        raise
    finally:
        seconds = perf_counter() - started
        metrics.PUBLISH_SECONDS.labels(outcome).observe(seconds)
        if not message.is_event or outcome != "success":
            with logger.contextualize(**message.about, queue=target):
                _log(outcome, latency_ms=round(seconds * 1000, 1))


def _log(outcome: str, *, latency_ms: float) -> None:
    match outcome:
        case "success":
            logger.info("publish_success", latency_ms=latency_ms)
        case PublishFault.NOT_READY:
            logger.warning("publish_rejected", reason=outcome)
        case PublishFault():
            logger.warning("publish_failed", reason=outcome, latency_ms=latency_ms)


def request_message(request: PageRequest, headers: Headers | None = None) -> Outgoing:
    """Return the message that asks for a page."""
    return Outgoing(
        body=MetadataRequested.from_request(request).model_dump_json().encode(),
        message_id=str(uuid4()),
        correlation_id=str(request.request_id),
        about={"request_id": request.request_id, "url": request.url},
        headers=headers or {},
    )


class RequestPublisher:
    """Publishes new requests to the request queue, for the API."""

    def __init__(self, sender: ConfirmedPublisher, topology: Topology) -> None:
        self._sender = sender
        self._requests = request_destination(sender.broker, topology)

    async def publish(self, request: PageRequest) -> None:
        """Return once the broker has confirmed the request. Raises `PublishError`."""
        await self._sender.send(self._requests, request_message(request))


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that is to come back after `delay_seconds`, one of `Topology.retry_delays`.

    `deferrals`: how often it was deferred without an attempt.
    """

    request: PageRequest
    delay_seconds: float
    deferrals: int = 0


class RetryPublisher:
    """Publishes retries, for the worker: each waits in the queue of its delay, then comes back."""

    def __init__(self, sender: ConfirmedPublisher, topology: Topology) -> None:
        self._sender = sender
        self._delays = {
            seconds: _DelayQueue(destination)
            for seconds, destination in retry_destinations(sender.broker, topology).items()
        }

    async def publish(self, retry: Retry) -> bool:
        """Say whether the broker has confirmed the retry. If not, use `publish_in_turn()`.

        Nothing is tried while the queue of this delay refuses retries.
        """
        delay = self._delays[retry.delay_seconds]
        return not delay.refuses and await self._try(delay, retry)

    async def publish_in_turn(self, retry: Retry) -> None:
        """Return once the broker has confirmed the retry, however often it refuses before.

        All that wait for the same queue take turns: only one retry is published at a time. The
        broker may have taken a retry that it did not confirm, so each further try can become a
        duplicate.
        """
        delay = self._delays[retry.delay_seconds]
        async with delay.turn:
            for attempt in count(1):
                if await self._try(delay, retry):
                    return
                await asyncio.sleep(REFUSED_RETRY.delay(attempt))

    async def _try(self, delay: "_DelayQueue", retry: Retry) -> bool:
        headers: Headers = {DEFERRALS_HEADER: retry.deferrals} if retry.deferrals else {}
        try:
            await self._sender.send(delay.destination, request_message(retry.request, headers))
        except errors.PublishError:
            delay.refuses = True
        else:
            delay.refuses = False
        return not delay.refuses


@dataclass
class _DelayQueue:
    """The queue of one delay, and whether it has refused the latest retry."""

    destination: RabbitPublisher
    refuses: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class EventPublisher:
    """Publishes events to the exchange, for a process that publishes events of these kinds.

    While the broker does not answer to an event, no other of its kind is tried, except with
    `again`: so pages do not wait one after another for a confirm that does not come.
    """

    def __init__(
        self, sender: ConfirmedPublisher, topology: Topology, kinds: Iterable[EventKind]
    ) -> None:
        self._sender = sender
        self._destinations = event_destinations(sender.broker, topology, kinds)
        self._unanswered: set[EventKind] = set()
        self._refusals: dict[EventKind, _Refusals] = {}

    async def publish(self, event: PageEvent, *, again: bool = False) -> bool:
        """Say whether every listener has the event, but for those whose queue is full."""
        if event.kind in self._unanswered and not again:
            return False
        try:
            await self._sender.send(self._destinations[event.kind], event_message(event))
        except errors.PublishError as exc:
            if exc.reason is PublishFault.QUEUE_REJECTED:
                return self._is_full(event.kind)
            self._unanswered.add(event.kind)
            return False
        self._unanswered.discard(event.kind)
        self._refusals.pop(event.kind, None)
        return True

    def _is_full(self, kind: EventKind) -> bool:
        """Say whether a queue has refused for so long that another copy of an event is in vain.

        A refusal that comes long after the one before starts the count anew. In between the queue
        may have taken events, of which a process that publishes few does not learn.
        """
        now = monotonic()
        refusals = self._refusals.get(kind)
        if refusals is None or now - refusals.latest > FULL_AFTER_SECONDS:
            refusals = self._refusals[kind] = _Refusals(first=now, latest=now)
        refusals.latest = now
        return now - refusals.first > FULL_AFTER_SECONDS


@dataclass(slots=True)
class _Refusals:
    """When the first and the latest refusal came, of those that followed one another."""

    first: float
    latest: float


def event_message(event: PageEvent) -> Outgoing:
    """Return the message that tells an event. Every copy of the event has the same `message_id`."""
    return Outgoing(
        body=PageEventMessage.of(event).model_dump_json().encode(),
        message_id=str(event.event_id),
        correlation_id=str(event.request_id or event.event_id),
        about={"request_id": event.request_id, "url": event.url, "event_id": event.event_id},
        is_event=True,
    )
