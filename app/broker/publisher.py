"""Publishing: a message is confirmed by the broker, or an error says why it was not."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from uuid import uuid4

from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError, PublishError
from faststream.rabbit import RabbitBroker
from faststream.rabbit.publisher import RabbitPublisher
from loguru import logger
from pamqp.common import FieldValue

from app import errors
from app.broker.cluster import connection_error_if_closed
from app.broker.connection import BrokerConnection
from app.broker.messages import DEFERRALS_HEADER, MetadataRequested
from app.broker.operations import request_destination, retry_destinations
from app.broker.topology import Topology
from app.models import PageRequest
from app.retries import Backoff
from app.runtime import metrics

Headers = dict[str, FieldValue]

REFUSED_RETRY = Backoff(initial=0.5, maximum=10, multiplier=2, attempts=1)
"""How long to wait before a retry that the broker has not confirmed is published again."""


class ConfirmedPublisher:
    """Publishes messages that are persistent, mandatory and confirmed, or raises.

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

    async def send(
        self, destination: RabbitPublisher, request: PageRequest, headers: Headers | None = None
    ) -> None:
        """Publish a request and wait for the broker's confirm.

        Raises `PublisherNotReady` if nothing was sent, `PublishFailed` if it may have been.
        """
        with _recorded(request, destination.queue.name):
            self._require_ready()
            with self._counted_in_flight():
                await self._publish(destination, request, headers or {})

    def _require_ready(self) -> None:
        if not self._connection.is_ready:
            raise errors.PublisherNotReady("publisher_not_ready")

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

    async def _publish(
        self, destination: RabbitPublisher, request: PageRequest, headers: Headers
    ) -> None:
        started = perf_counter()
        try:
            # FastStream's `timeout=` does not bound the wait for the confirm.
            async with asyncio.timeout(self._timeout_seconds):
                with connection_error_if_closed():
                    await destination.publish(
                        MetadataRequested.from_request(request).model_dump_json().encode(),
                        message_id=str(uuid4()),
                        correlation_id=str(request.request_id),
                        headers=headers,
                    )
        except TimeoutError as exc:
            # If another queue has confirmed since, the connection works and only this queue does
            # not. If none has, it may be open and yet not work: later messages get a new one.
            if self._last_confirm < started:
                self._connection.renew("confirm_timeout")
            raise errors.PublishFailed("confirm_timeout") from exc
        except PublishError as exc:
            # No queue has that name: somebody has deleted it.
            self._connection.declare_again([destination.queue.name])
            raise errors.PublishFailed("unroutable") from exc
        except DeliveryError as exc:
            self._connection.note_refusal(destination.queue.name)
            raise errors.PublishFailed("queue_rejected") from exc
        except CONNECTION_EXCEPTIONS as exc:
            raise errors.PublishFailed("connection_lost") from exc
        self._last_confirm = perf_counter()
        self._connection.note_confirm(destination.queue.name)


@contextmanager
def _recorded(request: PageRequest, queue: str) -> Iterator[None]:
    """Time, count and log one publish, whatever its outcome."""
    log = logger.bind(request_id=request.request_id, url=request.url, queue=queue)
    started = perf_counter()
    outcome = "cancelled"  # unless one of the lines below says otherwise
    try:
        yield
        outcome = "success"
        log.info("publish_success", latency_ms=_ms_since(started))
    except errors.PublisherNotReady as exc:
        outcome = exc.reason
        log.warning("publish_rejected", reason=exc.reason)
        raise
    except errors.PublishFailed as exc:
        outcome = exc.reason
        log.warning("publish_failed", reason=exc.reason, latency_ms=_ms_since(started))
        raise
    finally:
        metrics.PUBLISH_SECONDS.labels(outcome).observe(perf_counter() - started)


def _ms_since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 1)


class RequestPublisher:
    """Publishes new requests to the request queue, for the API."""

    def __init__(self, sender: ConfirmedPublisher, topology: Topology) -> None:
        self._sender = sender
        self._requests = request_destination(sender.broker, topology)

    async def publish(self, request: PageRequest) -> None:
        """Return once the broker has confirmed the request. Raises `PublishError`."""
        await self._sender.send(self._requests, request)


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that is to come back after `delay_seconds`, one of `Topology.retry_delays`.

    `deferrals`: how often it was put off without an attempt.
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
            await self._sender.send(delay.destination, retry.request, headers)
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
