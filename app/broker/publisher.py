"""Publishing: a message is confirmed by the broker, or an error says why it was not."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
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
from app.runtime import metrics

Headers = dict[str, FieldValue]


class ConfirmedPublisher:
    """Publishes messages that are persistent, mandatory and confirmed, or raises.

    Many messages wait for their confirms at once; a lock held until the confirm would make
    publishing 3 to 5 times slower. None is needed: nothing is awaited between the check that the
    connection is ready and the count of publishes in flight, for which `close` waits.
    """

    def __init__(self, connection: BrokerConnection, *, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
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
            # The connection may be open and yet not work. Later messages get a new one.
            self._connection.renew("confirm_timeout")
            raise errors.PublishFailed("confirm_timeout") from exc
        except PublishError as exc:
            # No queue has that name: somebody has deleted it.
            self._connection.declare_again()
            raise errors.PublishFailed("unroutable") from exc
        except DeliveryError as exc:
            raise errors.PublishFailed("queue_rejected") from exc
        except CONNECTION_EXCEPTIONS as exc:
            raise errors.PublishFailed("connection_lost") from exc


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


class RetryPublisher:
    """Publishes retries, for the worker: each waits in the queue of its delay, then comes back."""

    def __init__(self, sender: ConfirmedPublisher, topology: Topology) -> None:
        self._sender = sender
        self._delays = retry_destinations(sender.broker, topology)

    async def publish(
        self, request: PageRequest, *, delay_seconds: float, deferrals: int = 0
    ) -> None:
        """Return once the broker has confirmed the retry. Raises `PublishError`.

        `delay_seconds` is one of `Topology.retry_delays`.
        """
        headers: Headers = {DEFERRALS_HEADER: deferrals} if deferrals else {}
        await self._sender.send(self._delays[delay_seconds], request, headers)
