"""The worker as an application: its health, and the watch over its consumers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import httpx
import pytest
from aio_pika.exceptions import AMQPConnectionError
from dirty_equals import IsPartialDict
from faststream.asgi import AsgiFastStream

from app.assembly import Parts, assemble
from app.broker.connection import BrokerConnection, ConnectionState, Role
from app.runtime.settings import Settings
from app.store.mongo import Database
from app.worker.application import create_app
from app.worker.handlers import MessageHandler
from app.worker.probes import health_routes
from app.worker.watchdog import Watchdog
from tests.unit.amqp import FakeBroker, FakeConnection, a_connection, until
from tests.unit.recorded import Log


class FakeDatabase(Database):
    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers

    async def why_not_ready(self) -> str | None:
        return None if self._answers else "database does not answer"


@pytest.fixture
async def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
async def connection(broker: FakeBroker, slept: list[float]) -> BrokerConnection:
    del slept  # from here on no delay is waited
    connection = a_connection(broker)
    await connection.open()
    return connection


@pytest.fixture
def link(broker: FakeBroker) -> FakeConnection:
    return broker.connection


# --- Health ---


@pytest.fixture
def parts(settings: Settings, connection: BrokerConnection) -> Parts:
    parts = assemble(settings, service_name="worker")
    return replace(parts, connection=connection, database=FakeDatabase())


async def get(app: Any, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.get(path)


@pytest.fixture
async def consumer() -> BrokerConnection:
    consumer = a_connection(FakeBroker(), role=Role.CONSUMER)
    await consumer.open()
    return consumer


async def health(parts: Parts, consumer: BrokerConnection) -> httpx.Response:
    app = AsgiFastStream(consumer.broker, asgi_routes=health_routes(parts, consumer))
    return await get(app, "/health/ready")


async def test_a_worker_that_answers_is_alive(settings: Settings) -> None:
    answer = await get(create_app(settings), "/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["content-type"] == "application/json"


async def test_a_worker_with_both_servers_and_its_consumers_is_ready(
    parts: Parts, consumer: BrokerConnection
) -> None:
    answer = await health(parts, consumer)
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_a_worker_that_has_not_connected_is_not_ready(settings: Settings, log: Log) -> None:
    answer = await get(create_app(settings), "/health/ready")
    reason = "publisher is DISCONNECTED"
    assert answer.status_code == 503
    assert answer.json() == {"status": "not_ready", "reason": reason}
    assert log.one("readiness_failed") == IsPartialDict(level="WARNING", reason=reason)


async def test_a_worker_whose_consuming_connection_is_lost_is_not_ready(
    parts: Parts,
) -> None:
    answer = await health(parts, a_connection(FakeBroker(), role=Role.CONSUMER))
    assert (answer.status_code, answer.json()["reason"]) == (503, "consumer is DISCONNECTED")


async def test_a_worker_that_does_not_consume_is_not_ready(
    parts: Parts, consumer: BrokerConnection
) -> None:
    consumer.broker.subscriber("metadata.requests")
    answer = await health(parts, consumer)
    assert (answer.status_code, answer.json()["reason"]) == (503, "not consuming")


async def test_a_worker_without_a_database_is_not_ready(
    parts: Parts, consumer: BrokerConnection
) -> None:
    answer = await health(replace(parts, database=FakeDatabase(answers=False)), consumer)
    assert (answer.status_code, answer.json()["reason"]) == (503, "database does not answer")


async def test_the_worker_answers_404_to_other_paths(settings: Settings) -> None:
    assert (await get(create_app(settings), "/metadata")).status_code == 404


# --- Consumers that are lost without an error ---


@dataclass
class Declared:
    message_count: int
    consumer_count: int

    @property
    def declaration_result(self) -> "Declared":
        return self


class Queues:
    """Two queues, as a passive declaration shows them."""

    def __init__(self) -> None:
        self.requests = Declared(message_count=0, consumer_count=1)
        self.retries = Declared(message_count=0, consumer_count=1)
        self.looks = 0
        self.fault: Exception | None = None

    async def declare_queue(self, name: str, *, passive: bool = False, **_options: Any) -> Declared:
        if not passive:
            return self.requests
        self.looks += 1
        if self.fault is not None:
            raise self.fault
        return {"metadata.requests": self.requests, "metadata.retries": self.retries}[name]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        pass


@dataclass
class FakeHandler:
    received: Any
    is_busy: bool = False
    stopping: bool = False


@pytest.fixture
def queues(link: FakeConnection, connection: BrokerConnection) -> Queues:
    del connection  # which has declared its own by now
    queues = Queues()
    link.queues = cast("Any", queues)
    return queues


@pytest.fixture
def handler() -> FakeHandler:
    return FakeHandler(received=Counter())


@pytest.fixture
async def look(
    connection: BrokerConnection, queues: Queues, handler: FakeHandler
) -> AsyncIterator[Any]:
    """A function that waits until the watchdog has checked both queues so many times."""
    watchdog = Watchdog(connection, cast("MessageHandler", handler))
    watching = asyncio.create_task(watchdog.watch(interval_seconds=1))

    async def look(times: int = 1) -> None:
        seen = queues.looks
        await until(lambda: queues.looks >= seen + 2 * times)

    yield look
    watching.cancel()


async def test_a_worker_whose_queues_are_empty_keeps_its_connection(
    connection: BrokerConnection, look: Any
) -> None:
    await look(5)
    assert connection.is_ready


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError()])
async def test_nothing_that_goes_wrong_in_a_check_ends_the_watch(
    connection: BrokerConnection,
    handler: FakeHandler,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    """aiormq raises `CancelledError` where it waits for an answer on a connection that closes."""
    answers: list[BaseException | None] = [error, None]

    async def check(_watchdog: Watchdog) -> list[str]:
        if answer := answers.pop(0):
            raise answer
        return ["requests"]

    monkeypatch.setattr(Watchdog, "queues_not_consumed", check)
    watchdog = Watchdog(connection, cast("MessageHandler", handler))
    watching = asyncio.create_task(watchdog.watch(interval_seconds=1))
    await until(lambda: "consumers_lost" in log.events)
    watching.cancel()
    assert log.events.count("consumers_not_checked") == 1


@pytest.mark.parametrize("queue", ["requests", "retries"])
async def test_a_worker_that_has_lost_a_consumer_connects_again(
    connection: BrokerConnection, queues: Queues, look: Any, log: Log, queue: str
) -> None:
    await look()
    getattr(queues, queue).consumer_count = 0
    await until(lambda: connection.state is ConnectionState.RECONNECTING)
    assert log.one("consumers_lost") == IsPartialDict(level="ERROR", queues=[f"metadata.{queue}"])
    assert log.one("rmq_connection_lost")["reason"] == "consumers_lost"


async def test_a_worker_that_is_sent_no_messages_while_some_wait_connects_again(
    connection: BrokerConnection, queues: Queues, look: Any
) -> None:
    await look()
    queues.requests.message_count = 3
    await until(lambda: connection.state is ConnectionState.RECONNECTING)


async def test_a_busy_worker_may_let_messages_wait(
    connection: BrokerConnection, queues: Queues, handler: FakeHandler, look: Any
) -> None:
    handler.is_busy = True
    queues.requests.message_count = 3
    await look(5)
    assert connection.is_ready


@pytest.mark.usefixtures("look")
async def test_a_worker_that_is_stopping_does_not_check_its_consumers(
    connection: BrokerConnection, queues: Queues, handler: FakeHandler
) -> None:
    handler.stopping = True
    queues.requests.consumer_count = 0
    for _ in range(50):
        await asyncio.sleep(0)
    assert connection.is_ready


async def test_a_worker_that_is_sent_messages_keeps_its_connection(
    connection: BrokerConnection, queues: Queues, handler: FakeHandler, look: Any
) -> None:
    queues.requests.message_count = 3
    for _ in range(5):
        handler.received["metadata.requests"] += 1
        await look()
    assert connection.is_ready


async def test_a_check_that_fails_is_logged_and_made_again(
    connection: BrokerConnection, queues: Queues, look: Any, log: Log
) -> None:
    queues.fault = AMQPConnectionError("gone")
    await until(lambda: len(log.all("consumers_not_checked")) > 1)
    assert log.all("consumers_not_checked")[0]["reason"] == "AMQPConnectionError"
    queues.fault = None
    await look(2)
    assert connection.is_ready


@pytest.mark.usefixtures("look")
async def test_consumers_are_not_checked_while_the_connection_is_lost(
    link: FakeConnection, queues: Queues
) -> None:
    await link.lose()
    seen = []
    for _ in range(100):
        await asyncio.sleep(0)
        seen.append(queues.looks)
    assert seen[-1] == seen[50]
