"""The worker as an application: its parts, its lifespan, its subscribers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.asgi import AsgiFastStream
from faststream.rabbit.subscriber import RabbitSubscriber
from loguru import logger

from app.assembly import Parts, assemble
from app.broker.connection import loss_told_from_cancellation
from app.broker.operations import subscribe
from app.broker.publisher import RetryPublisher
from app.fetcher.client import HttpFetcher
from app.retries import RetryPolicy
from app.runtime import metrics
from app.runtime.process import end_process, spare_the_collector, stopping_at_once
from app.runtime.settings import Settings
from app.runtime.tracing import NO_TRACING, Tracing
from app.services import Collector
from app.worker.handlers import MessageHandler
from app.worker.probes import health_routes
from app.worker.rejections import DeadLetterMiddleware, decode
from app.worker.watchdog import Watchdog

SUBSCRIBE_TIMEOUT_SECONDS = 5
CANCEL_TIMEOUT_SECONDS = 5


def create_app(settings: Settings, tracing: Tracing = NO_TRACING) -> AsgiFastStream:
    """Build the worker; connections open in its lifespan, pages arrive once it is started."""
    parts = assemble(
        settings,
        service_name="worker",
        tracing=tracing,
        middlewares=[DeadLetterMiddleware],
        decoder=decode,
    )
    fetcher = _make_fetcher(settings)
    policy = RetryPolicy(settings.worker_max_attempts, settings.worker_retry_delays_seconds)
    handler = MessageHandler(
        Collector(
            fetcher=tracing.traced(fetcher, "fetcher"),
            pages=parts.pages,
            retries=policy,
            lease_seconds=settings.worker_lease_seconds,
        ),
        RetryPublisher(parts.sender, parts.topology),
        concurrency=settings.worker_concurrency,
    )
    subscribe(
        parts.broker,
        parts.topology,
        handler.handle,
        qos=settings.worker_concurrency * settings.worker_prefetch_count,
    )

    metrics.WORKER_SLOTS.set(settings.worker_concurrency)
    watchdog = Watchdog(parts.connection, handler)
    started = asyncio.Event()

    @asynccontextmanager
    async def lifespan(**_options: Any) -> AsyncIterator[None]:
        with stopping_at_once():
            await parts.database.open()
            await parts.connection.open()
        if settings.fetch_allowed_networks:
            exempt = [str(network) for network in settings.fetch_allowed_networks]
            logger.warning("fetch_guard_is_off", networks=exempt)
        spare_the_collector()
        watching = asyncio.create_task(watchdog.watch())
        try:
            yield
        finally:  # FastStream ends here too if it could not subscribe
            watching.cancel()
            await fetcher.aclose()
            await parts.database.close()
            await asyncio.to_thread(tracing.stop)
            logger.info("worker_stopped")
            end_process()

    async def note_start() -> None:
        logger.info("worker_started")
        started.set()

    async def drain() -> None:
        """Take no further messages, let those in flight finish, then disconnect."""
        logger.info("worker_stopping")
        handler.stopping = True
        # FastStream subscribes beside its lifespan: to disconnect meanwhile would fail the start.
        with suppress(TimeoutError):
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                await started.wait()
        await _drain(parts)

    return AsgiFastStream(
        parts.broker,
        lifespan=lifespan,
        after_startup=[note_start],
        on_shutdown=[drain],
        asgi_routes=health_routes(parts),
        logger=logging.getLogger("faststream"),
    )


def _make_fetcher(settings: Settings) -> HttpFetcher:
    return HttpFetcher(
        connect_timeout_seconds=settings.fetch_connect_timeout_seconds,
        total_timeout_seconds=settings.fetch_total_timeout_seconds,
        max_body_bytes=settings.fetch_max_body_bytes,
        max_redirects=settings.fetch_max_redirects,
        user_agent=settings.fetch_user_agent,
        allowed_ports=settings.fetch_allowed_ports,
        allowed_networks=settings.fetch_allowed_networks,
        per_host_concurrency=settings.fetch_per_host_concurrency,
        respect_robots=settings.fetch_respect_robots,
    )


async def _drain(parts: Parts) -> None:
    subscribers = cast("list[RabbitSubscriber]", parts.broker.subscribers)
    for subscriber in subscribers:
        await _cancel_consumer(subscriber)
    logger.info("consumers_cancelled")
    # Each waits for its messages in flight, at most for the broker's graceful timeout.
    await asyncio.gather(*map(_stop, subscribers))
    await parts.sender.close()


async def _stop(subscriber: RabbitSubscriber) -> None:
    with suppress(*CONNECTION_EXCEPTIONS), loss_told_from_cancellation():
        await subscriber.stop()


async def _cancel_consumer(subscriber: RabbitSubscriber) -> None:
    """Stop deliveries before the drain.

    FastStream cancels the consumer after its drain; until then every acknowledgement would
    bring a message that nobody handles and that only the closing channel gives back.
    """
    queue, tag = subscriber._queue_obj, subscriber._consumer_tag  # noqa: SLF001 (see above)
    if queue is None or tag is None or queue.channel.is_closed:
        return
    subscriber._consumer_tag = None  # noqa: SLF001 (so that stop() does not cancel it again)
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_SECONDS):
            with loss_told_from_cancellation():
                await queue.cancel(tag)
    except CONNECTION_EXCEPTIONS as exc:
        # Without a connection nothing is delivered either.
        logger.warning("consumer_not_cancelled", reason=type(exc).__name__)
