"""One trace and one request id, from the caller's request to the write in the database."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.keys import new_id, new_secret
from dev.stack import ROOT, Api, Worker
from tests.keys import bearer, id_of
from tests.plain_http import CLIENT
from tests.service import Service, eventually, started
from tests.site import Site

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


class _Handler(BaseHTTPRequestHandler):
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep the collector's log out of the tests' output."""


class Collector:
    """What has been exported so far. Processes export all they have when they stop."""

    def __init__(self, endpoint: str, bodies: list[bytes]) -> None:
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        self._bodies = bodies

    @property
    def spans(self) -> list[Span]:
        return [span for _, span in self._exported()]

    @property
    def services(self) -> set[str]:
        return {service for service, _ in self._exported()}

    def _exported(self) -> Iterator[tuple[str, Span]]:
        for body in self._bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                (service,) = (
                    attribute.value.string_value
                    for attribute in resource.resource.attributes
                    if attribute.key == "service.name"
                )
                for scope in resource.scope_spans:
                    yield from ((service, span) for span in scope.spans)


@pytest.fixture
def collector(service: Service) -> Iterator[Collector]:
    """A collector that the processes of the service send their spans to."""
    bodies: list[bytes] = []
    handler = type("Handler", (_Handler,), {"bodies": bodies})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        collector = Collector(f"http://127.0.0.1:{server.server_port}", bodies)
        service.environment |= collector.environment
        yield collector
        server.shutdown()
        thread.join()


def ancestors(span: Span, spans: list[Span]) -> list[str]:
    by_id = {one.span_id: one for one in spans}
    names = []
    while span.parent_span_id in by_id:
        span = by_id[span.parent_span_id]
        names.append(span.name)
    return names


def attributes(span: Span) -> dict[str, Any]:
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value") or "")
        for attribute in span.attributes
    }


def lines(process: Api | Worker, event: str, *, count: int) -> list[dict[str, Any]]:
    process.wait_for_event(event, count=count)
    return process.events(event)


def test_one_trace_leads_from_the_request_through_a_retry_to_the_write(
    service: Service, site: Site, collector: Collector
) -> None:
    api, worker = started(service.api(), service.worker())
    url, request_id = site.url("/failing/once"), str(uuid4())
    site.failing = True
    site.on_hit = lambda _path: setattr(site, "failing", False)  # after the first answer
    answer = CLIENT.post(
        f"{api.url}/metadata",
        json={"url": url},
        headers={"traceparent": CALLER, "X-Request-ID": request_id},
    )
    page = service.ended(api, url)
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == request_id
    assert (page["status"], page["attempts"], page["request_id"]) == ("COMPLETED", 2, request_id)
    for process, event, count in (
        (api, "publish_success", 1),
        (api, "request_answered", 1),
        (worker, "message_received", 2),
        (worker, "fetch_finished", 2),
        (worker, "publish_success", 1),
        (worker, "metadata_retryable_failure", 1),
        (worker, "metadata_persisted", 1),
    ):
        found = [one for one in lines(process, event, count=count) if "trace_id" in one]
        mine = [one for one in found if one["trace_id"] == TRACE_ID]
        assert [one["request_id"] for one in mine] == [request_id] * count

    for process in (api, worker):
        process.stop()
    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE_ID]
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
    assert attributes(request)["request_id"] == request_id
    assert attributes(request)["http.response.status_code"] == 202
    assert collector.services == {"page-metadata-api", "page-metadata-worker"}


def test_each_request_without_a_trace_begins_one_and_probes_are_not_traced(
    service: Service, collector: Collector
) -> None:
    api = service.api().start()
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert CLIENT.get(f"{api.url}{path}").status_code == 200
    for _ in range(2):
        assert service.get(api, "nonsense").status_code == 400
    api.stop()
    assert [span.name for span in collector.spans] == ["GET /metadata"] * 2
    assert len({span.trace_id for span in collector.spans}) == 2


def test_nothing_of_a_key_but_its_id_is_in_a_span(service: Service, collector: Collector) -> None:
    api = service.api().start()
    key = f"pm_{new_id()}_{new_secret()}"
    for target in (f"/metadata?key={key}", f"/{key}", "/metadata"):
        CLIENT.get(f"{api.url}{target}", headers=bearer(key))
    api.terminate()
    spans = repr(collector.spans)
    assert spans.count(f"pm_{id_of(key)}_REDACTED") == 2
    assert key.rpartition("_")[2] not in spans


def test_a_collector_that_is_away_does_not_matter(service: Service, site: Site) -> None:
    service.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    api, worker = started(service.api(), service.worker())
    service.post(api, site.url("/page"))
    assert service.ended(api, site.url("/page"))["status"] == "COMPLETED"
    # Each tries for ten seconds to hand over its last spans.
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda process: process.terminate(), (api, worker))) == [0, 0]
    eventually(lambda: service.queue("requests").ready, lambda count: count == 0)


def test_a_request_id_is_in_every_line_of_both_processes(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker())
    url, request_id = site.url("/page"), str(uuid4())
    answer = CLIENT.post(
        f"{api.url}/metadata",
        json={"url": url},
        headers={"X-Request-ID": request_id.replace("-", "").upper()},
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


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    assert not {"opentelemetry.sdk", "opentelemetry.exporter"} & imported()
    wanted = imported(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert {"opentelemetry.sdk", "opentelemetry.exporter"} <= wanted
