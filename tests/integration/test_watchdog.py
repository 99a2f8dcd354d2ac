"""A worker whose consumers are lost without an error, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from app.assembly import Parts, assemble, assemble_consumer
from app.broker.connection import BrokerConnection
from app.broker.operations import subscribe
from app.broker.private_api import consumed_queue, consuming_channel
from app.broker.publisher import EventPublisher, RetryPublisher
from app.events import Announcer
from app.models import Coalesced, Delivery, Outcome
from app.runtime.settings import Settings
from app.services import Collector
from app.worker.handlers import MessageHandler
from app.worker.held import ExtraConsumers, HeldMessages
from app.worker.rejections import decode
from app.worker.watchdog import Watchdog
from dev.servers import RabbitMQ
from tests.fakes import URL
from tests.messages import a_message, publish_to

INTERVAL_SECONDS = 0.3


class _NothingToCollect(Collector):
    def __init__(self) -> None:
        """Need nothing."""

    async def collect(self, delivery: Delivery, *, alone: bool = False) -> Outcome:
        del alone
        return Coalesced(f"not asked for: {delivery.request.url}")


def _handler(parts: Parts) -> MessageHandler:
    retries = RetryPublisher(parts.sender, parts.topology)
    held = HeldMessages(ExtraConsumers(parts.broker, prefetch=2))
    announcer = Announcer(EventPublisher(parts.sender, parts.topology, ()), parts.outbox)
    return MessageHandler(_NothingToCollect(), retries, announcer, held, concurrency=2)


@asynccontextmanager
async def _consuming(settings: Settings) -> AsyncIterator[tuple[BrokerConnection, MessageHandler]]:
    consumer = assemble_consumer(settings, service_name="worker", middlewares=[], decoder=decode)
    handler = _handler(assemble(settings, service_name="worker"))
    subscribe(consumer.broker, consumer.topology, handler.handle, qos=2)
    await consumer.open()
    await consumer.broker.start()
    try:
        yield consumer, handler
    finally:
        consumer.start_closing()
        await consumer.close()


@asynccontextmanager
async def _watched(consumer: BrokerConnection, handler: MessageHandler) -> AsyncIterator[None]:
    watching = asyncio.create_task(Watchdog(consumer, handler).watch(INTERVAL_SECONDS))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _lose_consumer(consumer: BrokerConnection, number: int) -> None:
    """Cancel one consumer, in the order of subscribing; the libraries are not to notice it."""
    queue = await consumed_queue(consumer.broker, consumer.topology.requests)
    channel = await consuming_channel(queue)
    tag, callback = list(channel.consumers.items())[number]
    await channel.basic_cancel(tag)
    channel.consumers[tag] = callback


@pytest.mark.parametrize("lost", [0, 1], ids=["requests", "retries"])
async def test_a_lost_consumer_is_noticed_and_restored(
    rabbitmq: RabbitMQ, unique_name: str, lost: int
) -> None:
    settings = Settings(
        _env_file=None,
        broker_url=rabbitmq.url,
        broker_queue_name=f"{unique_name}.requests",
        broker_initial_backoff_seconds=0.1,
        worker_retry_delays_seconds=(1.0,),
    )
    async with _consuming(settings) as (consumer, handler):
        queue = consumer.topology.consumed[lost].name
        await _lose_consumer(consumer, lost)
        await publish_to(rabbitmq.url, queue, [a_message(URL)])
        async with asyncio.timeout(10), _watched(consumer, handler):
            while not handler.received[queue]:  # noqa: ASYNC110 (a counter has no event)
                await asyncio.sleep(0.05)


async def test_a_worker_that_consumes_is_left_alone(rabbitmq: RabbitMQ, unique_name: str) -> None:
    settings = Settings(
        _env_file=None,
        broker_url=rabbitmq.url,
        broker_queue_name=f"{unique_name}.requests",
        worker_retry_delays_seconds=(1.0,),
    )
    async with _consuming(settings) as (consumer, handler), _watched(consumer, handler):
        watchdog = Watchdog(consumer, handler)
        for _ in range(3):
            await publish_to(rabbitmq.url, consumer.topology.requests.name, [a_message(URL)] * 3)
            assert await watchdog.queues_not_consumed() == []
