"""Tracing by OpenTelemetry; imported by `app/runtime/tracing.py`, and only when it is wanted.

The SDK reads its settings itself: `OTEL_EXPORTER_OTLP_ENDPOINT` (OTLP over HTTP, port 4318),
`OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES` and the rest of the specification's.
"""

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from faststream.rabbit.opentelemetry import RabbitTelemetryMiddleware
from loguru import logger
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__

if TYPE_CHECKING:
    from loguru import Record

T = TypeVar("T")

UNTRACED_PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Asked for every few seconds by machines, of no interest to anyone."""

SERVER_ERROR = 500

_PROPAGATOR = TraceContextTextMapPropagator()


def export_traces(service_name: str) -> "OpenTelemetry":
    """Return tracing whose spans go to the collector that the environment names."""
    resource = Resource.create(
        {"service.name": f"page-metadata-{service_name}", "service.version": __version__}
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OpenTelemetry(provider)


class OpenTelemetry:
    """Spans for requests, messages and calls; every line logged under one has its `trace_id`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("page-metadata", __version__)
        logger.configure(patcher=_add_trace_id)

    def middlewares(self) -> list[Any]:
        """Return FastStream's own middleware."""
        return [RabbitTelemetryMiddleware(tracer_provider=self._provider)]

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application with a span for each request."""
        return _TracedRequests(app, self._tracer)

    def traced(self, it: T, name: str) -> T:
        """Return a stand-in for the object, whose coroutines have spans."""
        return cast("T", _Traced(it, self._tracer, name))

    def stop(self) -> None:
        """Send what has not been sent yet."""
        self._provider.shutdown()


class _TracedRequests:
    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED_PATHS:
            await self._app(scope, receive, send)
            return
        method: str = scope["method"]
        caller = _PROPAGATOR.extract(Headers(scope=scope))
        with self._tracer.start_as_current_span(method, caller, SpanKind.SERVER) as span:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _describe(span, scope, message["status"])
                await send(message)

            await self._app(scope, receive, answer)


def _describe(span: Span, scope: Scope, status: int) -> None:
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("http.response.status_code", status)
    span.set_attribute("request_id", str(scope.get("request_id", "")))
    if status >= SERVER_ERROR:
        span.set_status(StatusCode.ERROR)


class _Traced:
    def __init__(self, it: object, tracer: Tracer, name: str) -> None:
        self._it = it
        self._tracer = tracer
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._it, attribute)
        if not inspect.iscoroutinefunction(value):
            return value

        async def in_span(*args: Any, **kwargs: Any) -> Any:
            with self._tracer.start_as_current_span(f"{self._name}.{attribute}"):
                return await value(*args, **kwargs)

        return in_span


def _add_trace_id(record: "Record") -> None:
    context = get_current_span().get_span_context()
    if context.is_valid:
        record["extra"]["trace_id"] = format_trace_id(context.trace_id)
