"""One trace and one request id from the caller's request to the database write."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest
from loguru import logger
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.api.application import create_app as create_api
from app.runtime.telemetry import OpenTelemetry
from app.worker.application import create_app as create_worker
from dev.stack import ROOT
from tests.service import Service, eventually, started
from tests.site import Site
from tests.unit.recorded import Log

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Iterator[OpenTelemetry]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield OpenTelemetry(provider)
    logger.configure(patcher=lambda _record: None)


@pytest.fixture
def log() -> Iterator[Log]:
    recorded = Log()
    number = logger.add(recorded.write, level="TRACE", format="{message}", catch=False)
    yield recorded
    logger.remove(number)


@asynccontextmanager
async def at_work(service: Service, tracing: OpenTelemetry) -> AsyncIterator[httpx.AsyncClient]:
    """Both applications in this process, on the real servers; all spans have ended afterwards."""
    api, worker = create_api(service.settings, tracing), create_worker(service.settings, tracing)
    transport = httpx.ASGITransport(api)
    async with (
        api.router.lifespan_context(api),
        worker.start_lifespan_context({}),
        httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
    ):
        yield client


async def ended(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while (page := await client.get("/metadata", params={"url": url})).status_code != 200:
            assert page.status_code == 202
    body: dict[str, Any] = page.json()
    return body


def ancestors(span: ReadableSpan, spans: list[ReadableSpan]) -> list[str]:
    by_id = {one.context.span_id: one for one in spans if one.context}
    names = []
    while span.parent is not None and span.parent.span_id in by_id:
        span = by_id[span.parent.span_id]
        names.append(span.name)
    return names


async def test_one_trace_leads_from_the_request_through_a_retry_to_the_write(
    service: Service, site: Site, tracing: OpenTelemetry, exporter: InMemorySpanExporter, log: Log
) -> None:
    url, request_id = site.url("/failing/once"), str(uuid4())
    site.failing = True
    site.on_hit = lambda _path: setattr(site, "failing", site.hits["/failing/once"] < 2)
    headers = {"traceparent": CALLER, "X-Request-ID": request_id}

    async with at_work(service, tracing) as client:
        answer = await client.post("/metadata", json={"url": url}, headers=headers)
        page = await ended(client, url)
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == request_id
    assert (page["status"], page["attempts"], page["request_id"]) == ("COMPLETED", 2, request_id)

    spans = [
        span
        for span in exporter.get_finished_spans()
        if span.context and f"{span.context.trace_id:032x}" == TRACE_ID
    ]
    names = [span.name for span in spans]
    assert names.count("fetcher.fetch") == names.count("pages.claim") == 2
    (write,) = [span for span in spans if span.name == "pages.complete"]
    queue = f"default.{service.name}"
    assert ancestors(write, spans) == [
        f"{queue}.retries process",
        f"{queue}.retry.1s create",
        f"{queue}.requests process",
        f"{queue}.requests create",
        "POST /metadata",
    ]
    (request,) = [span for span in spans if span.name == "POST /metadata"]
    assert (request.attributes or {})["request_id"] == request_id
    assert (request.attributes or {})["http.response.status_code"] == 202

    for event, times in (
        ("publish_success", 2),
        ("message_received", 2),
        ("fetch_finished", 2),
        ("metadata_retryable_failure", 1),
        ("metadata_persisted", 1),
    ):
        lines = log.all(event)
        assert [str(line["request_id"]) for line in lines] == [request_id] * times
        assert [line["trace_id"] for line in lines] == [TRACE_ID] * times


async def test_the_probes_are_not_traced(
    service: Service, tracing: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    async with at_work(service, tracing) as client:
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await client.get(path)).status_code == 200
    assert exporter.get_finished_spans() == ()


async def test_requests_without_a_trace_begin_one_each(
    service: Service, tracing: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    async with at_work(service, tracing) as client:
        for _ in range(2):
            await client.get("/metadata", params={"url": "nonsense"})
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["GET /metadata"] * 2
    assert len({span.context.trace_id for span in spans if span.context}) == 2


# --- In processes of their own ---


def test_a_request_id_is_in_every_line_of_both_processes(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker())
    url, request_id = site.url("/page"), str(uuid4())
    answer = httpx.post(
        f"{api.url}/metadata",
        json={"url": url},
        headers={"X-Request-ID": request_id.replace("-", "").upper()},
        trust_env=False,
    )
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == request_id
    for event in ("message_received", "fetch_started", "fetch_finished", "metadata_final_state"):
        assert worker.wait_for_event(event)["request_id"] == request_id
    assert api.wait_for_event("publish_success")["request_id"] == request_id
    assert api.wait_for_event("request_answered", request_id=request_id, status_code=202)
    assert service.ended(api, url)["request_id"] == request_id


def imported(**environment: str) -> set[str]:
    program = (
        "import sys, app.api.main, app.worker.main\n"
        "print(*{name.partition('.')[0] + '.' + name.split('.')[1] for name in sys.modules"
        " if name.startswith('opentelemetry.')})"
    )
    inherited = {name: value for name, value in os.environ.items() if "OTEL" not in name}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stdout.split())


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    assert not {"opentelemetry.sdk", "opentelemetry.exporter"} & imported()
    wanted = imported(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert {"opentelemetry.sdk", "opentelemetry.exporter"} <= wanted


class _Collector(BaseHTTPRequestHandler):
    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output to the tests."""


@contextmanager
def a_collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []
    handler = type("Collector", (_Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_both_processes_send_their_spans_to_the_collector(service: Service, site: Site) -> None:
    with a_collector() as (endpoint, received):
        service.environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        api, worker = started(service.api(), service.worker())
        service.post(api, site.url("/page"))
        service.ended(api, site.url("/page"))
        assert (api.terminate(), worker.terminate()) == (0, 0)
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    for words in (b"page-metadata-api", b"page-metadata-worker", b"POST /metadata"):
        assert words in sent
    assert b"pages.complete" in sent
    line = worker.wait_for_event("metadata_persisted")
    assert line["trace_id"] == api.wait_for_event("publish_success")["trace_id"]


def test_a_collector_that_is_away_costs_nothing_but_a_line(service: Service, site: Site) -> None:
    service.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    api, worker = started(service.api(), service.worker())
    service.post(api, site.url("/page"))
    assert service.ended(api, site.url("/page"))["status"] == "COMPLETED"
    assert (api.terminate(), worker.terminate()) == (0, 0)
    eventually(lambda: service.queue("requests").ready, lambda count: count == 0)
