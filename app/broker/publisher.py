"""Publishing that knows what became of a message: confirmed, or an error with its reason."""

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
from app.broker.connection import BrokerConnection, loss_told_from_cancellation
from app.broker.messages import DEFERRALS_HEADER, MetadataRequested
from app.broker.operations import request_destination, retry_destinations
from app.broker.topology import Topology
from app.models import PageRequest
from app.runtime import metrics

Headers = dict[str, FieldValue]


class ConfirmedPublisher:
    """Sends messages that are persistent, mandatory and confirmed, or raises.

    Confirms are awaited side by side: there is no lock, and no await between the look at the
    state and the count of publishes in flight, which closing waits for.
    """

    def __init__(self, connection: BrokerConnection, *, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def broker(self) -> RabbitBroker:
        """Where destinations are declared."""
        return self._connection.broker

    async def close(self) -> None:
        """Refuse new messages, wait for those in flight, then close channel and connection."""
        self._connection.start_closing()
        await self._idle.wait()
        await self._connection.close()
        logger.info("publisher_shutdown")

    @metrics.measured_publish
    async def send(
        self, destination: RabbitPublisher, request: PageRequest, headers: Headers | None = None
    ) -> None:
        """Publish a request and wait for the broker's confirm.

        Raises `PublisherNotReady` if nothing was sent, `PublishFailed` if it may have been.
        """
        log = logger.bind(request_id=request.request_id, url=request.url)
        started = perf_counter()
        try:
            self._require_ready()
            with self._counted():
                await self._confirmed(destination, request, headers or {})
        except errors.PublisherNotReady as exc:
            log.warning("publish_rejected", reason=exc.reason)
            raise
        except errors.PublishFailed as exc:
            log.warning("publish_failed", reason=exc.reason, latency_ms=_ms_since(started))
            raise
        log.info("publish_success", queue=destination.queue.name, latency_ms=_ms_since(started))

    def _require_ready(self) -> None:
        if not self._connection.is_ready:
            raise errors.PublisherNotReady("publisher_not_ready")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _confirmed(
        self, destination: RabbitPublisher, request: PageRequest, headers: Headers
    ) -> None:
        try:
            # FastStream's own timeout does not bound the whole wait.
            async with asyncio.timeout(self._timeout_seconds):
                with loss_told_from_cancellation():
                    await destination.publish(
                        MetadataRequested.from_request(request).model_dump_json().encode(),
                        message_id=str(uuid4()),
                        correlation_id=str(request.request_id),
                        headers=headers,
                    )
        except TimeoutError as exc:
            # Alive or not, this connection does not confirm: later messages get a new one.
            self._connection.renew("confirm_timeout")
            raise errors.PublishFailed("confirm_timeout") from exc
        except PublishError as exc:
            self._connection.declare_again()
            raise errors.PublishFailed("unroutable") from exc
        except DeliveryError as exc:
            raise errors.PublishFailed("queue_rejected") from exc
        except CONNECTION_EXCEPTIONS as exc:
            raise errors.PublishFailed("connection_lost") from exc


class RequestPublisher:
    """Puts new requests into the request queue: the API's side."""

    def __init__(self, sender: ConfirmedPublisher, topology: Topology) -> None:
        self._sender = sender
        self._requests = request_destination(sender.broker, topology)

    async def publish(self, request: PageRequest) -> None:
        """Raise `PublishError` unless the broker has taken the request."""
        await self._sender.send(self._requests, request)


class RetryPublisher:
    """Puts requests into the queue of a delay, from which they come back: the worker's side."""

    def __init__(self, sender: ConfirmedPublisher, topology: Topology) -> None:
        self._sender = sender
        self._delays = retry_destinations(sender.broker, topology)

    async def publish(
        self, request: PageRequest, *, delay_seconds: float, deferrals: int = 0
    ) -> None:
        """Raise `PublishError` unless the broker has taken the retry.

        `delay_seconds` is one of the delays of the topology.
        """
        headers: Headers = {DEFERRALS_HEADER: deferrals} if deferrals else {}
        await self._sender.send(self._delays[delay_seconds], request, headers)


def _ms_since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 1)
