"""Publishing: confirmed or an error with its reason, and many messages at once."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelInvalidStateError
from dirty_equals import IsFloat, IsPartialDict, IsUUID
from faststream.rabbit.response import RabbitPublishCommand

from app.broker.connection import BrokerConnection, ConnectionState
from app.broker.messages import MetadataRequested
from app.broker.publisher import (
    ConfirmedPublisher,
    Outgoing,
    RequestPublisher,
    Retry,
    RetryPublisher,
    request_message,
)
from app.errors import PublisherNotReady, PublishFailed
from app.runtime.metrics import REGISTRY
from tests.fakes import URL, a_request
from tests.unit.amqp import (
    TOPOLOGY,
    FakeBroker,
    FakeDestination,
    a_connection,
    queue_full,
    unroutable,
    until,
)
from tests.unit.recorded import Log


@pytest.fixture
async def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
async def connection(broker: FakeBroker) -> BrokerConnection:
    connection = a_connection(broker)
    await connection.open()
    return connection


@pytest.fixture
def sender(connection: BrokerConnection) -> ConfirmedPublisher:
    return ConfirmedPublisher(connection, timeout_seconds=10)


def failing(exc: BaseException) -> FakeDestination:
    def answer() -> None:
        raise exc

    return FakeDestination(answer)


def confirming_at(event: asyncio.Event) -> FakeDestination:
    """A queue that confirms each message once the event is set."""
    return FakeDestination(lambda: event)


def a_message() -> Outgoing:
    return request_message(a_request())


def published(outcome: str) -> float:
    """Return how many publishes were timed with this outcome so far."""
    name = "page_metadata_publish_seconds_count"
    return REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0


async def test_a_confirmed_message_is_logged_with_its_latency(
    sender: ConfirmedPublisher, log: Log
) -> None:
    before = published("success")
    request, destination = a_request(), FakeDestination()
    await sender.send(destination, request_message(request))
    assert destination.confirmed == 1
    assert published("success") == before + 1
    assert log.one("publish_success") == IsPartialDict(
        level="INFO",
        request_id=request.request_id,
        url=URL,
        queue="metadata.requests",
        latency_ms=IsFloat(ge=0),
    )


async def test_a_message_carries_the_request_and_its_ids(sender: ConfirmedPublisher) -> None:
    request, destination = a_request(attempt=3), FakeDestination()
    await sender.send(destination, request_message(request, {"x-deferrals": 2}))
    (sent,) = destination.sent
    assert MetadataRequested.model_validate_json(sent["body"]).to_request() == request
    assert sent == IsPartialDict(
        message_id=IsUUID(),
        correlation_id=str(request.request_id),
        headers={"x-deferrals": 2},
    )


async def test_every_message_has_an_id_of_its_own(sender: ConfirmedPublisher) -> None:
    request, destination = a_request(), FakeDestination()
    await sender.send(destination, request_message(request))
    await sender.send(destination, request_message(request))
    first, second = (UUID(sent["message_id"]) for sent in destination.sent)
    assert first != second


async def test_a_message_counts_as_published_only_once_it_is_confirmed(
    sender: ConfirmedPublisher, log: Log
) -> None:
    confirm = asyncio.Event()
    destination = confirming_at(confirm)
    publishing = asyncio.create_task(sender.send(destination, a_message()))
    await until(lambda: len(destination.sent) == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not publishing.done()
    assert "publish_success" not in log.events
    confirm.set()
    await publishing
    assert "publish_success" in log.events


async def test_many_messages_wait_for_their_confirms_at_once(sender: ConfirmedPublisher) -> None:
    confirm = asyncio.Event()
    destination = confirming_at(confirm)
    publishing = [asyncio.create_task(sender.send(destination, a_message())) for _ in range(50)]
    await until(lambda: len(destination.sent) == 50)
    assert destination.confirmed == 0
    confirm.set()
    await asyncio.gather(*publishing)
    assert destination.confirmed == 50


FAILURES = {
    "the queue is full": (queue_full, "queue_rejected"),
    "there is no such queue": (unroutable, "unroutable"),
    "the channel is closed": (ChannelInvalidStateError, "connection_lost"),
    "the connection is lost": (lambda: AMQPConnectionError("gone"), "connection_lost"),
    "the socket is broken": (lambda: BrokenPipeError(32, "broken"), "connection_lost"),
    "the transport is closing": (lambda: RuntimeError("closing"), "connection_lost"),
    "closing the connection cancels": (asyncio.CancelledError, "connection_lost"),
    "the library's own timeout": (TimeoutError, "confirm_timeout"),
}


@pytest.mark.parametrize(("cause", "reason"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_message_that_is_not_confirmed_fails_with_its_reason(
    sender: ConfirmedPublisher, log: Log, cause: Callable[[], BaseException], reason: str
) -> None:
    request, before = a_request(), published(reason)
    with pytest.raises(PublishFailed) as failure:
        await sender.send(failing(cause()), request_message(request))
    assert failure.value.reason == reason
    assert published(reason) == before + 1
    assert log.one("publish_failed") == IsPartialDict(
        level="WARNING",
        request_id=request.request_id,
        url=URL,
        reason=reason,
        latency_ms=IsFloat(ge=0),
    )
    assert "publish_success" not in log.events


async def test_the_wait_for_a_confirm_has_a_timeout(
    connection: BrokerConnection,
) -> None:
    sender = ConfirmedPublisher(connection, timeout_seconds=0.01)
    with pytest.raises(PublishFailed, match="confirm_timeout"):
        async with asyncio.timeout(5):
            await sender.send(confirming_at(asyncio.Event()), a_message())


async def test_a_connection_that_does_not_confirm_is_renewed(
    connection: BrokerConnection, broker: FakeBroker
) -> None:
    sender = ConfirmedPublisher(connection, timeout_seconds=0.01)
    with pytest.raises(PublishFailed):
        async with asyncio.timeout(5):
            await sender.send(confirming_at(asyncio.Event()), a_message())
    assert connection.state is ConnectionState.RECONNECTING
    await until(lambda: bool(broker.connection.fake_transport.closed_with))


async def test_a_connection_on_which_another_message_was_confirmed_meanwhile_is_kept(
    connection: BrokerConnection, broker: FakeBroker
) -> None:
    sender = ConfirmedPublisher(connection, timeout_seconds=0.05)
    unconfirmed = asyncio.create_task(sender.send(confirming_at(asyncio.Event()), a_message()))
    await asyncio.sleep(0)
    await sender.send(FakeDestination(), a_message())
    with pytest.raises(PublishFailed, match="confirm_timeout"):
        await unconfirmed
    assert connection.is_ready
    assert broker.connection.fake_transport.closed_with == []


async def test_a_missing_queue_is_declared_before_the_next_message_is_published(
    sender: ConfirmedPublisher, connection: BrokerConnection, broker: FakeBroker
) -> None:
    declared = len(broker.connection.queues.declared)
    with pytest.raises(PublishFailed):
        await sender.send(failing(unroutable()), a_message())
    assert not connection.is_ready
    await until(lambda: connection.is_ready)
    assert len(broker.connection.queues.declared) == 2 * declared
    assert broker.connection.fake_transport.closed_with == []


async def test_a_full_queue_does_not_renew_the_connection(
    sender: ConfirmedPublisher, connection: BrokerConnection
) -> None:
    with pytest.raises(PublishFailed):
        await sender.send(failing(queue_full()), a_message())
    assert connection.is_ready


async def test_a_cancelled_task_stays_cancelled(sender: ConfirmedPublisher, log: Log) -> None:
    before = published("cancelled")
    destination = confirming_at(asyncio.Event())
    publishing = asyncio.create_task(sender.send(destination, a_message()))
    await until(lambda: len(destination.sent) == 1)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert "publish_failed" not in log.events
    assert published("cancelled") == before + 1


async def test_an_unexpected_error_is_not_translated(sender: ConfirmedPublisher) -> None:
    with pytest.raises(ZeroDivisionError):
        await sender.send(failing(ZeroDivisionError()), a_message())


async def test_nothing_is_sent_before_the_connection_is_ready(log: Log) -> None:
    connection = a_connection(FakeBroker())
    sender, destination = ConfirmedPublisher(connection, timeout_seconds=10), FakeDestination()
    request, before = a_request(), published("publisher_not_ready")
    with pytest.raises(PublisherNotReady, match="publisher_not_ready"):
        await sender.send(destination, request_message(request))
    assert destination.sent == []
    assert published("publisher_not_ready") == before + 1
    assert log.one("publish_rejected") == IsPartialDict(
        level="WARNING", request_id=request.request_id, url=URL, reason="publisher_not_ready"
    )
    assert "publish_failed" not in log.events


@pytest.mark.parametrize("cause", ["lost", "blocked", "closing"])
async def test_a_message_is_refused_at_once_while_the_connection_can_not_be_used(
    sender: ConfirmedPublisher, connection: BrokerConnection, broker: FakeBroker, cause: str
) -> None:
    match cause:
        case "lost":
            await broker.connection.lose()
        case "blocked":
            broker.connection.fake_transport.unblocked.clear()
        case _:
            connection.start_closing()
    destination = FakeDestination()
    with pytest.raises(PublisherNotReady):
        await sender.send(destination, a_message())
    assert destination.sent == []


async def test_closing_waits_for_messages_in_flight_and_refuses_new_ones(
    sender: ConfirmedPublisher, broker: FakeBroker, log: Log
) -> None:
    confirm = asyncio.Event()
    destination = confirming_at(confirm)
    publishing = [asyncio.create_task(sender.send(destination, a_message())) for _ in range(2)]
    await until(lambda: len(destination.sent) == 2)
    closing = asyncio.create_task(sender.close())
    for _ in range(20):
        await asyncio.sleep(0)
    with pytest.raises(PublisherNotReady):
        await sender.send(destination, a_message())
    assert (closing.done(), broker.is_stopped) == (False, False)
    confirm.set()
    await asyncio.gather(*publishing, closing)
    assert broker.is_stopped
    assert log.events[-1] == "publisher_shutdown"
    assert log.events.index("publisher_shutdown") > log.events.index("publish_success")


async def test_closing_does_not_wait_for_a_message_that_has_failed(
    sender: ConfirmedPublisher, broker: FakeBroker
) -> None:
    with pytest.raises(PublishFailed):
        await sender.send(failing(queue_full()), a_message())
    await asyncio.wait_for(sender.close(), timeout=1)
    assert broker.is_stopped


class RecordingProducer:
    """Stands in for FastStream's producer; refuses the first `refusals` messages."""

    def __init__(self) -> None:
        self.commands: list[RabbitPublishCommand] = []
        self.attempts = 0
        self.refusals = 0
        self.confirming = asyncio.Event()
        self.confirming.set()

    async def publish(self, command: RabbitPublishCommand) -> None:
        self.attempts += 1
        await self.confirming.wait()
        if self.attempts <= self.refusals:
            raise queue_full()
        self.commands.append(command)


@pytest.fixture
def producer(broker: FakeBroker) -> RecordingProducer:
    producer = RecordingProducer()
    broker.config.broker_config.producer = producer  # type: ignore[assignment]  # a fake
    return producer


def on_the_wire(command: RabbitPublishCommand) -> dict[str, Any]:
    return {
        "exchange": command.exchange.name,
        "routing_key": command.destination,
        "correlation_id": command.correlation_id,
        "headers": command.headers,
        **command.message_options,
        **command.publish_options,
    }


async def test_a_request_is_persistent_mandatory_json_for_the_request_queue(
    sender: ConfirmedPublisher, producer: RecordingProducer
) -> None:
    request = a_request()
    await RequestPublisher(sender, TOPOLOGY).publish(request)
    (command,) = producer.commands
    assert on_the_wire(command) == IsPartialDict(
        exchange="",
        routing_key="metadata.requests",
        correlation_id=str(request.request_id),
        headers={},
        persist=True,
        mandatory=True,
        content_type="application/json",
        message_type="MetadataRequested",
        message_id=IsUUID(),
    )


@pytest.mark.parametrize(
    ("delay_seconds", "queue"),
    [
        (5, "metadata.retry.5s"),
        (30, "metadata.retry.30s"),
        (120, "metadata.retry.2m"),
        (600, "metadata.retry.10m"),
    ],
)
async def test_a_retry_goes_to_the_queue_of_its_delay(
    sender: ConfirmedPublisher, producer: RecordingProducer, delay_seconds: float, queue: str
) -> None:
    request = a_request(attempt=2)
    assert await RetryPublisher(sender, TOPOLOGY).publish(Retry(request, delay_seconds))
    (command,) = producer.commands
    assert on_the_wire(command) == IsPartialDict(
        exchange="", routing_key=queue, headers={}, persist=True, mandatory=True
    )
    assert MetadataRequested.model_validate_json(command.body).attempt == 2


async def test_a_deferred_retry_says_how_often_it_was_deferred(
    sender: ConfirmedPublisher, producer: RecordingProducer
) -> None:
    retries = RetryPublisher(sender, TOPOLOGY)
    await retries.publish(Retry(a_request(), 5, deferrals=3))
    assert producer.commands[0].headers == {"x-deferrals": 3}


async def test_a_queue_that_refuses_although_it_has_room_gets_a_new_connection(
    sender: ConfirmedPublisher, connection: BrokerConnection, log: Log
) -> None:
    refusing = failing(queue_full())
    connection.note_room([refusing.queue.name])
    for _ in range(2):
        with pytest.raises((PublishFailed, PublisherNotReady)):
            await sender.send(refusing, a_message())
    assert connection.state is ConnectionState.RECONNECTING
    assert log.one("rmq_connection_lost")["reason"] == "queue_refuses_with_room"


async def test_a_queue_that_has_filled_up_since_it_was_counted_keeps_its_connection(
    sender: ConfirmedPublisher, connection: BrokerConnection
) -> None:
    connection.note_room(["metadata.requests"])
    await sender.send(FakeDestination(), a_message())
    with pytest.raises(PublishFailed):
        await sender.send(failing(queue_full()), a_message())
    assert connection.is_ready


@pytest.fixture
def retries(sender: ConfirmedPublisher) -> RetryPublisher:
    return RetryPublisher(sender, TOPOLOGY)


async def test_a_refused_retry_is_published_again_with_growing_delays_in_its_turn(
    retries: RetryPublisher, producer: RecordingProducer, slept: list[float]
) -> None:
    producer.refusals = 9
    retry = Retry(a_request(), 5)
    assert not await retries.publish(retry)
    await retries.publish_in_turn(retry)
    assert slept == [0.5, 1, 2, 4, 8, 10, 10, 10]
    assert len(producer.commands) == 1


async def test_nothing_is_published_to_a_delay_queue_that_refuses_except_in_turn(
    retries: RetryPublisher, producer: RecordingProducer
) -> None:
    producer.refusals = 1
    assert not await retries.publish(Retry(a_request(), 5))
    assert not await retries.publish(Retry(a_request(), 5))
    assert producer.commands == []
    assert await retries.publish(Retry(a_request(), 30))
    await retries.publish_in_turn(Retry(a_request(), 5))
    assert await retries.publish(Retry(a_request(), 5))
    assert len(producer.commands) == 3


async def test_only_one_of_the_retries_that_wait_for_a_queue_is_published_at_a_time(
    retries: RetryPublisher, producer: RecordingProducer
) -> None:
    producer.confirming.clear()
    waiting = [
        asyncio.create_task(retries.publish_in_turn(Retry(a_request(), 5))) for _ in range(3)
    ]
    await until(lambda: producer.attempts == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert producer.attempts == 1
    producer.confirming.set()
    await asyncio.gather(*waiting)
    assert len(producer.commands) == 3


async def test_a_retry_is_published_in_turn_once_the_connection_is_back(
    retries: RetryPublisher,
    producer: RecordingProducer,
    broker: FakeBroker,
    connection: BrokerConnection,
    slept: list[float],
) -> None:
    del slept
    await broker.connection.lose()
    publishing = asyncio.create_task(retries.publish_in_turn(Retry(a_request(), 5)))
    await asyncio.sleep(0)
    assert producer.commands == []
    await broker.connection.reconnect()
    await until(lambda: connection.is_ready)
    await publishing
    assert len(producer.commands) == 1


async def test_a_request_that_the_broker_refuses_is_raised(
    sender: ConfirmedPublisher, producer: RecordingProducer
) -> None:
    producer.refusals = 1
    with pytest.raises(PublishFailed, match="queue_rejected"):
        await RequestPublisher(sender, TOPOLOGY).publish(a_request())
