"""Metrics: each thing is counted once, under labels that are known beforehand."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Self, cast
from uuid import UUID

import httpx
import pytest
from aio_pika.exceptions import AMQPConnectionError
from dirty_equals import IsPartialDict, IsPositiveFloat, IsUUID
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from app.broker.queues import observe
from app.errors import FetchError
from app.models import (
    Coalesced,
    Completed,
    ErrorKind,
    FailedPermanently,
    Outcome,
    PageError,
    PageMetadata,
    PageStatus,
    RetryLater,
)
from app.runtime import metrics
from app.runtime.metrics import REGISTRY
from app.services import Inventory
from app.store.mongo import CommandTimer
from tests.fakes import URL, FakePages, FakePublisher, a_page, a_request, a_timeout
from tests.unit.amqp import TOPOLOGY
from tests.unit.recorded import Log

Since = Callable[..., float]
ERROR = PageError(ErrorKind.TIMEOUT, "no answer in time")


@pytest.fixture
def since() -> Since:
    """A function that returns by how much a sample has grown since the test began."""
    before = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
    }

    def grown(name: str, **labels: str) -> float:
        key = (f"page_metadata_{name}", frozenset(labels.items()))
        return (REGISTRY.get_sample_value(key[0], labels) or 0.0) - before.get(key, 0.0)

    return grown


@pytest.fixture
def api(default_api: FastAPI) -> FastAPI:
    default_api.state.inventory = Inventory(publisher=FakePublisher(), pages=FakePages())
    return default_api


@pytest.fixture
async def client(api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


# --- Requests ---


async def test_a_request_is_counted_by_route_and_status(
    client: httpx.AsyncClient, since: Since
) -> None:
    await client.post("/metadata", json={"url": URL})
    await client.post("/metadata", json={"url": "nonsense"})
    await client.get("/health/live")
    for method, route, status in (
        ("POST", "/metadata", "202"),
        ("POST", "/metadata", "400"),
        ("GET", "/health/live", "200"),
    ):
        labels = {"method": method, "route": route, "status": status}
        assert since("http_request_seconds_count", **labels) == 1


async def test_unknown_paths_and_methods_share_one_label(
    client: httpx.AsyncClient, since: Since
) -> None:
    for path in ("/one", "/two", f"/{URL}"):
        await client.request("BREW", path)
    count = since("http_request_seconds_count", method="other", route="other", status="404")
    assert count == 3


async def test_an_unforeseen_error_is_counted_logged_once_and_has_its_request_id(
    client: httpx.AsyncClient, api: FastAPI, since: Since, log: Log
) -> None:
    api.state.inventory = None
    answer = await client.post("/metadata", json={"url": URL})
    labels = {"method": "POST", "route": "/metadata", "status": "500"}
    assert since("http_request_seconds_count", **labels) == 1
    assert answer.headers["x-request-id"] == str(log.one("unhandled_error")["request_id"])


async def test_every_answer_has_a_request_id_of_its_own(client: httpx.AsyncClient) -> None:
    first, second = [await client.get("/health/live") for _ in range(2)]
    assert first.headers["x-request-id"] == IsUUID
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("sent", ["not-a-uuid", "", "x" * 500, "1; DROP TABLE"])
async def test_a_request_id_that_is_not_a_uuid_is_replaced(
    client: httpx.AsyncClient, sent: str
) -> None:
    answer = await client.get("/health/live", headers={"X-Request-ID": sent})
    assert answer.headers["x-request-id"] == IsUUID
    assert answer.headers["x-request-id"] != sent


async def test_every_answer_is_logged(client: httpx.AsyncClient, log: Log) -> None:
    answer = await client.get("/metadata?url=%FFnonsense")
    assert log.one("request_answered") == IsPartialDict(
        method="GET",
        target="/metadata?url=%FFnonsense",
        status_code=400,
        latency_ms=IsPositiveFloat(),
        request_id=UUID(answer.headers["x-request-id"]),
    )


# --- Publishing ---


def test_the_outcomes_of_publishing_are_shown_before_anything_is_published() -> None:
    for outcome in ("success", "queue_rejected", "connection_lost"):
        name = "page_metadata_publish_seconds_count"
        assert REGISTRY.get_sample_value(name, {"outcome": outcome}) is not None


# --- Fetching ---


@pytest.mark.parametrize(
    ("result", "outcome", "kind"),
    [
        (a_page(200), "2xx", ""),
        (a_page(404), "4xx", ""),
        (a_page(503), "5xx", ""),
        (a_timeout(), "error", "timeout"),
        (FetchError(ErrorKind.DNS, "no such host", retryable=False), "error", "dns"),
    ],
)
def test_a_fetch_is_counted_by_outcome_and_kind(
    since: Since, result: PageMetadata | FetchError, outcome: str, kind: str
) -> None:
    metrics.observe_fetch(result, 0.5)
    assert since("fetch_seconds_count", outcome=outcome, error_kind=kind) == 1
    assert since("body_bytes_count") == isinstance(result, PageMetadata)


@pytest.mark.parametrize(
    ("outcome", "label", "kind"),
    [
        (Completed(PageStatus.COMPLETED), "completed", ""),
        (FailedPermanently(ERROR, PageStatus.FAILED_PERMANENT), "failed", "timeout"),
        (RetryLater(a_request(), ERROR, 30.0), "retry", "timeout"),
        (Coalesced("in_progress"), "coalesced", ""),
    ],
)
def test_a_message_is_counted_by_its_outcome(
    since: Since, outcome: Outcome, label: str, kind: str
) -> None:
    metrics.count_outcome(outcome)
    assert since("outcomes_total", outcome=label, error_kind=kind) == 1


def test_a_retry_is_counted_by_its_delay_and_a_coalesced_message_by_its_reason(
    since: Since,
) -> None:
    metrics.count_outcome(RetryLater(a_request(), ERROR, 120.0))
    metrics.count_outcome(Coalesced("answered"))
    assert since("retries_total", delay_seconds="120") == 1
    assert since("coalesced_total", reason="answered") == 1


# --- The database ---


def test_a_database_command_is_timed_by_name_and_outcome(since: Since) -> None:
    timer = CommandTimer()
    event: Any = SimpleNamespace(command_name="findAndModify", duration_micros=2_000)
    timer.started(event)
    timer.succeeded(event)
    timer.failed(event)
    timer.succeeded(cast("Any", SimpleNamespace(command_name="hello", duration_micros=1)))
    labels = {"command": "findAndModify", "outcome": "success"}
    assert since("database_seconds_count", **labels) == 1
    assert since("database_seconds_sum", **labels) == pytest.approx(0.002)
    assert since("database_seconds_count", command="findAndModify", outcome="failure") == 1
    assert since("database_seconds_count", command="other", outcome="success") == 1


# --- The queues, as they are when the metrics are asked for ---


class Broker:
    """A connection whose queues have three messages and one consumer each."""

    topology = TOPOLOGY

    def __init__(self) -> None:
        self.is_ready = True
        self.fault: Exception | None = None
        self.declaration_result = SimpleNamespace(message_count=3, consumer_count=1)

    def channel(self) -> "Broker":
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        pass

    async def declare_queue(self, _name: str, *, passive: bool) -> "Broker":
        assert passive
        if self.fault:
            raise self.fault
        return self


def samples(name: str) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        sample.labels["queue"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"page_metadata_{name}"
    }


def ready() -> float | None:
    return REGISTRY.get_sample_value("page_metadata_publisher_ready")


async def test_every_queue_shows_its_messages_and_consumers() -> None:
    await observe(cast("Any", Broker()))
    assert samples("queue_messages") == {queue.name: 3 for queue in TOPOLOGY}
    assert samples("queue_consumers") == {queue.name: 1 for queue in TOPOLOGY}
    assert ready() == 1


async def test_counts_from_before_an_outage_are_not_shown_during_it() -> None:
    broker = Broker()
    await observe(cast("Any", broker))
    broker.is_ready = False
    await observe(cast("Any", broker))
    assert samples("queue_messages") == samples("queue_consumers") == {}
    assert ready() == 0


async def test_a_broker_that_does_not_answer_leaves_the_counts_out(log: Log) -> None:
    broker = Broker()
    broker.fault = AMQPConnectionError("gone")
    await observe(cast("Any", broker))
    assert samples("queue_messages") == {}
    assert log.one("queues_not_counted")["reason"] == "AMQPConnectionError"


# --- The page itself ---


async def test_the_api_shows_its_metrics_without_a_broker(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"page_metadata_publisher_state", "process_resident_memory_bytes"} <= names


def test_no_label_could_hold_a_url() -> None:
    known = {
        *("method", "route", "status", "outcome", "error_kind", "queue", "delay_seconds"),
        *("reason", "command", "le", "kind", "page_metadata_publisher_state"),
    }
    labels = {
        label
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("page_metadata_")
        for label in sample.labels
    }
    assert labels <= known
