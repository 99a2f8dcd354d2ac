"""The connection: its states in order, its backoff, and what it logs."""

import asyncio
from typing import Any

import faststream.rabbit.broker.broker as faststream_broker
import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelPreconditionFailed
from dirty_equals import IsPartialDict
from faststream.rabbit import RabbitBroker
from yarl import URL

from app.broker.cluster import broker_urls, describe
from app.broker.connection import BrokerConnection, ConnectionState, Role, make_broker
from app.broker.pipelined import PipelinedConnection
from app.broker.private_api import connect_to
from app.broker.queues import queues_watched
from app.errors import BrokerUnreachable, StartupError, TopologyMismatch
from app.runtime.metrics import REGISTRY
from tests.unit.amqp import (
    TOPOLOGY,
    FakeBroker,
    FakeConnection,
    FakeTransport,
    a_connection,
    until,
)
from tests.unit.recorded import Log

TO_READY = ["CONNECTED", "CHANNEL_OPEN", "CONFIRM_ENABLED", "QUEUE_DECLARED", "READY"]
QUEUES = [*(queue.name for queue in TOPOLOGY), TOPOLOGY.events.name]
"""What is declared, in this order: the exchange comes last."""

MISMATCH = ChannelPreconditionFailed("inequivalent arg 'x-max-length' for queue 'metadata.dead'")


@pytest.fixture
async def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
async def opened(broker: FakeBroker, slept: list[float]) -> BrokerConnection:
    del slept  # this fixture skips every delay from here on
    connection = a_connection(broker)
    await connection.open()
    return connection


@pytest.fixture
def link(broker: FakeBroker) -> FakeConnection:
    """The aio-pika connection below the one under test."""
    return broker.connection


@pytest.fixture
def transport(link: FakeConnection) -> FakeTransport:
    return link.fake_transport


def is_in(connection: BrokerConnection, state: ConnectionState) -> bool:
    return connection.state is state


async def let_other_tasks_run() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# --- Opening ---


async def test_opening_passes_every_state_in_order(broker: FakeBroker, log: Log) -> None:
    connection = a_connection(broker)
    assert (connection.state, connection.is_ready) == (ConnectionState.DISCONNECTED, False)
    await connection.open()
    assert log.states == ["CONNECTING", *TO_READY]
    assert connection.is_ready
    assert connection.why_not_ready() is None
    assert broker.connection.queues.declared == QUEUES


async def test_the_connection_is_not_ready_before_the_queues_are_declared(
    broker: FakeBroker,
) -> None:
    connection = a_connection(broker)
    broker.connection.queues.answering.clear()
    opening = asyncio.create_task(connection.open())
    await until(lambda: is_in(connection, ConnectionState.CONFIRM_ENABLED))
    assert not connection.is_ready
    assert connection.why_not_ready() == "publisher is CONFIRM_ENABLED"
    broker.connection.queues.answering.set()
    await opening
    assert connection.is_ready


async def test_a_first_attempt_that_succeeds_is_logged(broker: FakeBroker, log: Log) -> None:
    await a_connection(broker).open()
    attempt, connected = log.one("rmq_connect_attempt"), log.one("rmq_connected")
    assert (attempt["attempt"], attempt["delay"], connected["attempt"]) == (1, 0, 1)


async def test_failed_attempts_are_followed_by_growing_delays(slept: list[float], log: Log) -> None:
    broker = FakeBroker(*(ConnectionRefusedError("refused") for _ in range(3)))
    connection = a_connection(broker)
    await connection.open()
    assert slept == [1, 2, 4]
    attempts = [(it["attempt"], it["delay"]) for it in log.all("rmq_connect_attempt")]
    assert attempts == [(1, 0), (2, 1), (3, 2), (4, 4)]
    failures = [(it["attempt"], it["reason"]) for it in log.all("rmq_connect_failed")]
    assert failures == [(n, "ConnectionRefusedError: refused") for n in (1, 2, 3)]
    assert log.states == ["CONNECTING", *TO_READY]


async def test_opening_fails_after_the_last_attempt(slept: list[float], log: Log) -> None:
    broker = FakeBroker(*(AMQPConnectionError("no") for _ in range(5)))
    connection = a_connection(broker)
    with pytest.raises(
        BrokerUnreachable, match=r"in 5 attempts \(AMQPConnectionError: no\)"
    ) as failure:
        await connection.open()
    assert "BROKER_URL" in str(failure.value)
    assert (len(broker.tried), slept) == (5, [1, 2, 4, 8])
    assert not connection.is_ready
    assert log.states == ["CONNECTING"]


async def test_an_error_that_is_not_of_the_connection_is_not_tried_again(
    slept: list[float],
) -> None:
    broker = FakeBroker(ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        await a_connection(broker).open()
    assert (len(broker.tried), slept) == (1, [])


async def test_a_queue_with_other_arguments_stops_the_start_at_once(
    broker: FakeBroker, slept: list[float]
) -> None:
    broker.connection.queues.answers.append(MISMATCH)
    connection = a_connection(broker)
    with pytest.raises(TopologyMismatch, match=r"metadata\.dead"):
        await connection.open()
    assert (len(broker.tried), slept, connection.is_ready) == (1, [], False)


@pytest.mark.parametrize("fault", ["a declaration hangs", "the connection is lost"])
async def test_a_broker_that_fails_while_queues_are_declared_stops_the_start(
    broker: FakeBroker, slept: list[float], fault: str
) -> None:
    del slept
    if fault == "a declaration hangs":
        broker.connection.queues.answering.clear()
    broker.connection.queues.answers.extend([AMQPConnectionError("gone")] * 5)
    with pytest.raises(StartupError):
        await a_connection(broker, declare_timeout_seconds=0.01).open()


async def test_an_attempt_that_fails_after_connecting_is_closed_and_made_again(
    broker: FakeBroker, slept: list[float], log: Log
) -> None:
    broker.connection.queues.answers.extend([None, AMQPConnectionError("gone")])
    connection = a_connection(broker)
    await connection.open()
    assert (slept, broker.is_stopped) == ([1], True)
    assert log.one("rmq_connect_failed") == IsPartialDict(
        attempt=1, reason="AMQPConnectionError: gone"
    )
    first_attempt = ["CONNECTING", "CONNECTED", "CHANNEL_OPEN", "CONFIRM_ENABLED"]
    assert log.states == [*first_attempt, "CONNECTING", *TO_READY]
    assert connection.is_ready


async def test_each_attempt_tries_the_next_host_of_a_cluster(slept: list[float]) -> None:
    del slept
    broker = FakeBroker(*(ConnectionRefusedError("refused") for _ in range(2)))
    await a_connection(broker).open()
    assert broker.tried == ["amqp://one/", "amqp://two/", "amqp://one/"]


async def test_a_connection_that_was_never_opened_has_no_channel(broker: FakeBroker) -> None:
    with pytest.raises(ConnectionError, match="not connected"):
        a_connection(broker).channel()


async def test_a_channel_is_closed_at_the_end_of_its_block(
    opened: BrokerConnection, link: FakeConnection
) -> None:
    async with opened.channel():
        assert link.queues.is_open
    assert not link.queues.is_open


# --- Losing the connection and getting it back ---


async def test_a_lost_connection_is_not_ready(
    opened: BrokerConnection, link: FakeConnection, log: Log
) -> None:
    await link.lose(ConnectionResetError("reset by peer"))
    assert opened.state is ConnectionState.RECONNECTING
    assert opened.why_not_ready() == "publisher is RECONNECTING"
    assert log.one("rmq_connection_lost")["reason"] == "ConnectionResetError: reset by peer"
    assert log.states == ["RECONNECTING"]


@pytest.mark.usefixtures("opened")
async def test_each_reconnection_attempt_tries_the_next_host(link: FakeConnection) -> None:
    tried = []
    for _ in range(3):
        await link.lose()
        tried.append(str(link.url))
    assert tried == ["amqp://two/", "amqp://one/", "amqp://two/"]


@pytest.mark.usefixtures("opened")
async def test_reconnection_waits_as_the_backoff_says(link: FakeConnection, log: Log) -> None:
    intervals = []
    for _ in range(8):
        await link.lose(ConnectionRefusedError("refused"))
        intervals.append(link.reconnect_interval)
    assert intervals == [1, 1, 2, 4, 8, 16, 30, 30]
    attempts = [(it["attempt"], it["delay"]) for it in log.all("rmq_reconnect_attempt")]
    assert attempts == [(1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 30), (8, 30)]
    assert len(log.all("rmq_connection_lost")) == 1


@pytest.mark.usefixtures("opened")
async def test_reconnection_never_gives_up(link: FakeConnection, log: Log) -> None:
    for _ in range(2000):
        await link.lose()
    assert link.reconnect_interval == 30
    assert log.all("rmq_reconnect_attempt")[-1]["attempt"] == 2000


async def test_a_reconnected_connection_declares_its_queues_before_it_is_ready(
    opened: BrokerConnection, link: FakeConnection, log: Log
) -> None:
    await link.lose()
    await link.lose()
    link.queues.answering.clear()
    await link.reconnect()
    await until(lambda: is_in(opened, ConnectionState.CONFIRM_ENABLED))
    assert not opened.is_ready
    link.queues.answering.set()
    await until(lambda: opened.is_ready)
    assert link.queues.declared == QUEUES * 2
    assert log.states == ["RECONNECTING", *TO_READY]
    await until(lambda: "rmq_reconnected" in log.events)
    assert log.one("rmq_reconnected")["attempt"] == 2
    assert log.one("rmq_connection_lost")["reason"] == "closed"


async def test_a_reconnection_resets_the_backoff(
    opened: BrokerConnection, link: FakeConnection, log: Log
) -> None:
    for _ in range(5):
        await link.lose()
    await link.reconnect()
    await until(lambda: opened.is_ready)
    await link.lose()
    assert link.reconnect_interval == 1
    assert log.all("rmq_reconnect_attempt")[-1]["attempt"] == 1
    assert len(log.all("rmq_connection_lost")) == 2


async def test_a_queue_that_has_other_arguments_now_is_reported_until_it_has_the_right_ones(
    opened: BrokerConnection, link: FakeConnection, slept: list[float], log: Log
) -> None:
    await link.lose()
    link.queues.answers.extend([MISMATCH, ConnectionResetError("again"), MISMATCH])
    await link.reconnect()
    await until(lambda: opened.is_ready)
    failures = log.all("rmq_connect_failed")
    assert [failure["level"] for failure in failures] == ["ERROR"] * 3
    assert failures[0]["reason"].startswith("TopologyMismatch: queue 'metadata.dead'")
    assert slept == [1, 2, 4]
    failed_attempt = ["RECONNECTING", "CONNECTED", "CHANNEL_OPEN", "CONFIRM_ENABLED"]
    assert log.states == [*failed_attempt * 3, "RECONNECTING", *TO_READY]


async def test_a_connection_lost_while_it_recovers_recovers_from_the_start(
    opened: BrokerConnection, link: FakeConnection
) -> None:
    await link.lose()
    link.queues.answering.clear()
    await link.reconnect()
    await until(lambda: is_in(opened, ConnectionState.CONFIRM_ENABLED))
    await link.lose()
    link.queues.answering.set()
    assert is_in(opened, ConnectionState.RECONNECTING)
    await link.reconnect()
    await until(lambda: opened.is_ready)
    assert link.queues.declared == QUEUES * 2


# --- A connection that is open but can not be used ---


async def test_a_connection_is_not_ready_while_the_broker_blocks_it(
    opened: BrokerConnection, transport: FakeTransport
) -> None:
    transport.unblocked.clear()
    assert not opened.is_ready
    assert opened.why_not_ready() == "publisher is blocked by a resource alarm of the broker"
    assert opened.state is ConnectionState.READY
    transport.unblocked.set()
    assert opened.is_ready


async def test_a_renewed_connection_is_dropped_and_reconnects(
    opened: BrokerConnection, link: FakeConnection, transport: FakeTransport, log: Log
) -> None:
    opened.renew("confirm_timeout")
    assert is_in(opened, ConnectionState.RECONNECTING)
    await until(lambda: bool(transport.closed_with))
    assert [str(reason) for reason in transport.closed_with] == ["confirm_timeout"]
    await link.lose(transport.closed_with[0])
    assert log.one("rmq_connection_lost")["reason"] == "confirm_timeout"
    await link.reconnect()
    await until(lambda: opened.is_ready)


async def test_a_blocked_connection_is_not_renewed(
    opened: BrokerConnection, transport: FakeTransport
) -> None:
    transport.unblocked.clear()
    opened.renew("confirm_timeout")
    transport.unblocked.set()
    assert opened.is_ready
    assert transport.closed_with == []


async def test_a_connection_that_is_being_renewed_is_not_dropped_twice(
    opened: BrokerConnection, transport: FakeTransport, log: Log
) -> None:
    for _ in range(3):
        opened.renew("confirm_timeout")
    await until(lambda: bool(transport.closed_with))
    assert len(transport.closed_with) == len(log.all("rmq_connection_lost")) == 1


# --- Queues that are missing ---


async def test_queues_that_are_missing_are_declared_again_before_it_is_ready(
    opened: BrokerConnection, link: FakeConnection, log: Log
) -> None:
    link.queues.answering.clear()
    opened.declare_again(["metadata.dead"])
    assert opened.why_not_ready() == "missing at the broker: metadata.dead"
    assert log.one("queues_missing") == IsPartialDict(level="ERROR", queues=["metadata.dead"])
    link.queues.answering.set()
    await until(lambda: opened.is_ready)
    assert link.queues.declared == QUEUES * 2
    assert "queues_declared_again" in log.events
    assert "rmq_reconnected" not in log.events


async def test_a_queue_that_was_deleted_is_noticed_within_the_interval(
    opened: BrokerConnection, link: FakeConnection, log: Log
) -> None:
    async with queues_watched(opened, interval_seconds=1):
        link.queues.missing = {"metadata.dead", "metadata.retry.5s"}
        await until(lambda: "queues_declared_again" in log.events)
    missing = log.one("queues_missing")["queues"]
    assert sorted(missing) == ["metadata.dead", "metadata.retry.5s"]
    assert link.queues.missing == set()


@pytest.mark.parametrize(
    ("queue", "messages", "state"),
    [
        pytest.param("metadata.requests", 499, ConnectionState.RECONNECTING, id="it has room"),
        pytest.param(
            "metadata.requests", 500, ConnectionState.READY, id="it may have been full just now"
        ),
        pytest.param(
            "metadata.retry.5s", 100_000, ConnectionState.RECONNECTING, id="it has no limit"
        ),
    ],
)
async def test_a_refusal_by_a_queue_with_room_renews_the_connection(
    opened: BrokerConnection,
    link: FakeConnection,
    queue: str,
    messages: int,
    state: ConnectionState,
) -> None:
    link.queues.messages = {queue: messages}
    async with queues_watched(opened, interval_seconds=1):
        await until(lambda: link.queues.counted >= len(QUEUES))
        await asyncio.sleep(0)
    opened.note_refusal(queue)
    assert is_in(opened, state)


async def test_queues_that_can_not_be_counted_are_not_taken_for_missing(
    opened: BrokerConnection, link: FakeConnection, log: Log
) -> None:
    async with queues_watched(opened, interval_seconds=1):
        link.queues.answers.append(AMQPConnectionError("gone"))
        await until(lambda: "queues_not_counted" in log.events)
    assert opened.is_ready
    assert "queues_missing" not in log.events


# --- A consumer's connection ---


async def test_a_consumer_says_what_it_is(log: Log) -> None:
    broker = FakeBroker()
    consumer = a_connection(broker, role=Role.CONSUMER)
    assert consumer.why_not_ready() == "consumer is DISCONNECTED"
    await consumer.open()
    assert [str(move["to"]) for move in log.all("consumer_state")] == ["CONNECTING", *TO_READY]
    assert log.states == []
    assert log.one("rmq_connected")["connection"] == "consumer"


async def test_the_state_of_a_consumer_is_not_shown_as_that_of_the_publisher(
    opened: BrokerConnection,
) -> None:
    consumer = a_connection(FakeBroker(), role=Role.CONSUMER)
    await consumer.open()
    consumer.start_closing()
    assert opened.is_ready
    labels = {"page_metadata_publisher_state": "READY"}
    assert REGISTRY.get_sample_value("page_metadata_publisher_state", labels) == 1


# --- Closing ---


async def test_closing_refuses_messages_first_and_then_closes_the_broker(
    opened: BrokerConnection, broker: FakeBroker, log: Log
) -> None:
    opened.start_closing()
    assert (opened.is_ready, broker.is_stopped) == (False, False)
    await opened.close()
    assert broker.is_stopped
    assert log.states == ["CLOSING", "CLOSED"]


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), ConnectionResetError()])
async def test_the_connection_is_closed_even_if_the_channel_fails_to_close(
    opened: BrokerConnection, broker: FakeBroker, transport: FakeTransport, failure: BaseException
) -> None:
    broker.stop_failure = failure
    await opened.close()
    assert opened.state is ConnectionState.CLOSED
    assert len(transport.closed_with) == 1


async def test_the_socket_is_dropped_if_a_broker_does_not_let_go_of_it(
    broker: FakeBroker, link: FakeConnection
) -> None:
    broker.stop = link.socket_dropped.wait  # type: ignore[assignment, method-assign]  # ends then
    connection = a_connection(broker, declare_timeout_seconds=0.02)
    await connection.open()
    await connection.close()
    assert connection.state is ConnectionState.CLOSED
    assert link.socket_dropped.is_set()


async def test_the_socket_of_a_broker_that_answers_is_not_dropped(
    opened: BrokerConnection, link: FakeConnection
) -> None:
    await opened.close()
    assert not link.socket_dropped.is_set()


async def test_closing_can_be_cancelled(opened: BrokerConnection, broker: FakeBroker) -> None:
    broker.stop = asyncio.Event().wait  # type: ignore[assignment, method-assign]  # never ends
    closing = asyncio.create_task(opened.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing


async def test_closing_is_not_logged_as_a_lost_connection(
    opened: BrokerConnection, link: FakeConnection, log: Log
) -> None:
    opened.start_closing()
    await link.lose()
    await opened.close()
    await link.lose()
    assert "rmq_connection_lost" not in log.events
    assert opened.state is ConnectionState.CLOSED


async def test_closing_ends_a_recovery(opened: BrokerConnection, link: FakeConnection) -> None:
    await link.lose()
    link.queues.answering.clear()
    await link.reconnect()
    await until(lambda: is_in(opened, ConnectionState.CONFIRM_ENABLED))
    opened.start_closing()
    link.queues.answering.set()
    await opened.close()
    await let_other_tasks_run()
    assert is_in(opened, ConnectionState.CLOSED)


async def test_a_reconnection_during_closing_does_not_make_it_ready(
    opened: BrokerConnection, link: FakeConnection
) -> None:
    await link.lose()
    opened.start_closing()
    await link.reconnect()
    await let_other_tasks_run()
    assert is_in(opened, ConnectionState.CLOSING)


# --- The URLs of the hosts ---


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("amqp://u:p@h:5672/", ["amqp://u:p@h:5672/?heartbeat=10"]),
        ("amqp://h", ["amqp://h/?heartbeat=10"]),
        ("amqp://h/vhost?heartbeat=3", ["amqp://h/vhost?heartbeat=3"]),
        (
            "amqps://u:p%40@one:5671,two/vhost?x=1",
            [
                "amqps://u:p%40@one:5671/vhost?heartbeat=10&x=1",
                "amqps://u:p%40@two/vhost?heartbeat=10&x=1",
            ],
        ),
        ("amqp://[::1]:5672/", ["amqp://[::1]:5672/?heartbeat=10"]),
    ],
)
def test_each_host_has_a_url_with_a_heartbeat_unless_it_names_one(
    url: str, urls: list[str]
) -> None:
    assert [sorted_query(one) for one in broker_urls(url)] == urls


def test_each_host_has_the_name_of_the_connection_unless_it_has_one() -> None:
    urls = broker_urls("amqp://one,two/?heartbeat=3", connection_name="a-worker")
    assert urls == (
        "amqp://one/?heartbeat=3&name=a-worker",
        "amqp://two/?heartbeat=3&name=a-worker",
    )
    assert "name=mine" in broker_urls("amqp://one/?name=mine", connection_name="a-worker")[0]


def sorted_query(url: str) -> str:
    return str(URL(url).with_query(sorted(URL(url).query.items())))


# --- The FastStream broker ---


class RecordedConnect:
    """Stands in for `aio_pika.connect_robust()` and records how it is called."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.channels: list[dict[str, Any]] = []

    async def __call__(self, **options: Any) -> "RecordedConnect":
        self.options = options
        return self

    async def channel(self, **options: Any) -> None:
        self.channels.append(options)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedConnect:
    connect = RecordedConnect()
    monkeypatch.setattr(faststream_broker, "connect_robust", connect)
    return connect


def a_broker(url: str) -> RabbitBroker:
    return make_broker(
        url, service_name="api", connect_timeout_seconds=7, shutdown_grace_seconds=11
    )


async def test_connecting_has_a_timeout_and_raises_a_failed_first_attempt(
    recorded: RecordedConnect,
) -> None:
    await a_broker("amqp://u:p@h:5672/").connect()
    assert recorded.options == IsPartialDict(url="amqp://u:p@h:5672/", timeout=7, fail_fast=True)


async def test_a_broker_connects_to_the_host_it_is_told_to(recorded: RecordedConnect) -> None:
    broker = a_broker("amqp://one/")
    await connect_to(broker, "amqp://two/")
    assert recorded.options["url"] == "amqp://two/"
    assert recorded.options["connection_class"] is PipelinedConnection


async def test_the_publishing_channel_confirms_and_raises_for_a_message_without_a_queue(
    recorded: RecordedConnect,
) -> None:
    await a_broker("amqp://u:p@h:5672/").connect()
    (channel,) = recorded.channels
    assert channel == IsPartialDict(publisher_confirms=True, on_return_raises=True)


def test_the_address_in_the_asyncapi_document_has_no_credentials() -> None:
    broker = a_broker("amqps://user:secret@broker.example:5671/vhost?heartbeat=5")
    assert broker.specification.url == ["amqps://broker.example:5671/vhost"]


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (None, "closed"),
        (ConnectionResetError(), "ConnectionResetError"),
        (OSError("no route"), "OSError: no route"),
    ],
)
def test_an_exception_is_described_by_its_type_and_its_message(
    exc: BaseException | None, text: str
) -> None:
    assert describe(exc) == text
