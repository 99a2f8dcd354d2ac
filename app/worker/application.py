"""The worker as an application: what it consists of, how it starts and how it stops."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.asgi import AsgiFastStream
from faststream.rabbit.subscriber import RabbitSubscriber
from loguru import logger

from app.assembly import Parts, assemble, assemble_consumer
from app.broker.cluster import connection_error_if_closed
from app.broker.connection import BrokerConnection
from app.broker.operations import subscribe
from app.broker.private_api import consumed_queue, consuming_channel, subscribers_of
from app.broker.publisher import EventPublisher, RetryPublisher
from app.broker.queues import queues_watched
from app.events import Announcer
from app.fetcher.client import HttpFetcher
from app.models import EventKind
from app.redaction import Redaction
from app.retries import RetryPolicy
from app.runtime import metrics
from app.runtime.process import end_with_failure, stoppable_at_once
from app.runtime.settings import Settings
from app.runtime.tracing import stop_tracing
from app.services import Collector, Fetcher
from app.worker.extraction import ExtractingFetcher
from app.worker.handlers import MessageHandler
from app.worker.held import ExtraConsumers, HeldMessages
from app.worker.probes import health_routes
from app.worker.rejections import DeadLetterMiddleware, decode
from app.worker.watchdog import Watchdog

SUBSCRIBE_TIMEOUT_SECONDS = 5
CANCEL_TIMEOUT_SECONDS = 5


def create_app(settings: Settings) -> AsgiFastStream:
    """Build the worker. Its connections open in its lifespan; then FastStream subscribes."""
    worker = Worker(settings)
    return AsgiFastStream(
        worker.consumer.broker,
        lifespan=worker.lifespan,
        after_startup=[worker.note_start],
        on_shutdown=[worker.drain],
        asgi_routes=health_routes(worker.parts, worker.consumer),
        logger=logging.getLogger("faststream"),
    )


class Worker:
    """The parts of a worker, and what happens to them from start to stop.

    FastStream calls the methods in the order in which they stand here. It begins to subscribe
    when `lifespan()` has connected, beside the HTTP server, and calls `note_start()` when it has
    subscribed. On SIGTERM it calls `drain()`, and then has `lifespan()` close what is left.
    """

    def __init__(self, settings: Settings) -> None:
        self.parts = assemble(settings, service_name="worker")
        self.consumer = assemble_consumer(
            settings,
            service_name="worker",
            middlewares=[DeadLetterMiddleware],
            decoder=decode,
        )
        prefetch = settings.worker_concurrency * settings.worker_prefetch_count
        held = HeldMessages(ExtraConsumers(self.consumer.broker, prefetch=prefetch))
        self._fetcher = _make_fetcher(settings)
        self._announcer = Announcer(
            EventPublisher(
                self.parts.sender, self.parts.topology, EventKind if settings.events else ()
            ),
            self.parts.outbox,
        )
        self._handler = _make_handler(settings, self.parts, self._fetcher, self._announcer, held)
        self._watchdog = Watchdog(self.consumer, self._handler)
        self._guard_exemptions = [str(network) for network in settings.fetch_allowed_networks]
        self._tells = settings.events
        self._started = asyncio.Event()
        subscribe(self.consumer.broker, self.consumer.topology, self._handler.handle, qos=prefetch)
        metrics.WORKER_SLOTS.set(settings.worker_concurrency)

    @asynccontextmanager
    async def lifespan(self, **_options: Any) -> AsyncIterator[None]:
        """Connect, let the worker consume until it is stopped, and disconnect."""
        with stoppable_at_once():
            await self.parts.database.open()
            await self.parts.connection.open()
            await self.consumer.open()
        if self._guard_exemptions:
            logger.warning("fetch_guard_is_off", networks=self._guard_exemptions)
        beside = [asyncio.create_task(self._watchdog.watch())]
        if self._tells:
            beside.append(asyncio.create_task(self._announcer.sweep_forever()))
        try:
            async with queues_watched(self.parts.connection):
                yield
        except BaseException:  # FastStream could not subscribe
            await self._close(beside)
            end_with_failure()
            raise
        await self._close(beside)

    async def note_start(self) -> None:
        """Say that messages can arrive."""
        logger.info("worker_started")
        self._started.set()

    async def drain(self) -> None:
        """Take no further messages, let those in flight finish, then leave the broker."""
        logger.info("worker_stopping")
        self._handler.stopping = True
        # FastStream may still be subscribing: without a connection that would be a failed start.
        with suppress(TimeoutError):
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                await self._started.wait()
        await _cancel_consumers(self.consumer)
        logger.info("consumers_cancelled")
        # Each waits for its messages in flight, at most for the broker's graceful timeout.
        await asyncio.gather(*map(_stop, subscribers_of(self.consumer.broker)))
        # The publisher first: the message of a retry that is in flight may still be acknowledged.
        await self.parts.sender.close()
        self.consumer.start_closing()
        await self.consumer.close()

    async def _close(self, beside: Iterable["asyncio.Task[None]"]) -> None:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await self._fetcher.aclose()
        await self.parts.database.close()
        await asyncio.to_thread(stop_tracing)
        logger.info("worker_stopped")


def _make_fetcher(settings: Settings) -> HttpFetcher:
    return HttpFetcher(
        connect_timeout_seconds=settings.fetch_connect_timeout_seconds,
        total_timeout_seconds=settings.fetch_total_timeout_seconds,
        max_body_bytes=settings.fetch_max_body_bytes,
        max_redirects=settings.fetch_max_redirects,
        user_agent=settings.fetch_user_agent,
        allowed_ports=settings.fetch_allowed_ports,
        allowed_networks=settings.fetch_allowed_networks,
        denied_networks=settings.fetch_denied_networks,
        per_host_concurrency=settings.fetch_per_host_concurrency,
        per_host_per_minute=settings.fetch_per_host_per_minute,
        respect_robots=settings.fetch_respect_robots,
        conditional=settings.fetch_conditional,
    )


def _make_handler(
    settings: Settings, parts: Parts, fetcher: Fetcher, announcer: Announcer, held: HeldMessages
) -> MessageHandler:
    policy = RetryPolicy(settings.worker_max_attempts, settings.worker_retry_delays_seconds)
    collector = Collector(
        fetcher=ExtractingFetcher(fetcher) if settings.worker_extract else fetcher,
        pages=parts.pages,
        retries=policy,
        lease_seconds=settings.worker_lease_seconds,
        redaction=Redaction(
            names=settings.store_redacted_headers, keeps_source=settings.store_page_source
        ),
        tells=settings.events,
    )
    return MessageHandler(
        collector,
        RetryPublisher(parts.sender, parts.topology),
        announcer,
        held,
        concurrency=settings.worker_concurrency,
    )


async def _cancel_consumers(consumer: BrokerConnection) -> None:
    """Have the broker send no further messages.

    FastStream cancels its consumers after it has waited for the messages in flight. Until then
    the broker would answer every acknowledgement with another message, which nobody handles and
    which no other worker gets before this one has closed its channel.
    """
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_SECONDS):
            with connection_error_if_closed():
                await _cancel_each(consumer)
    except CONNECTION_EXCEPTIONS as exc:
        # Without a connection the broker sends nothing either.
        logger.warning("consumers_not_cancelled", reason=type(exc).__name__)


async def _cancel_each(consumer: BrokerConnection) -> None:
    # Both subscribers consume on the channel of this one's queue.
    channel = await consuming_channel(
        await consumed_queue(consumer.broker, consumer.topology.requests)
    )
    for tag in list(channel.consumers):
        await channel.basic_cancel(tag)


async def _stop(subscriber: RabbitSubscriber) -> None:
    with suppress(*CONNECTION_EXCEPTIONS), connection_error_if_closed():
        await subscriber.stop()
