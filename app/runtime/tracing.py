"""Traces, sent to a collector when `OTEL_EXPORTER_OTLP_ENDPOINT` names one.

Spans come from three places:

- HTTP requests: FastAPI makes them itself (`telemetry=` in `app/api/application.py`).
- Messages: FastStream's middleware, which also carries the trace in the messages' headers.
- Steps worth a span of their own: `@traced("pages.claim")` above the method.

The SDK reads its settings itself: the endpoint (OTLP over HTTP, port 4318),
`OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES` and the rest of its specification's.
"""

import os
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from faststream.rabbit.opentelemetry import RabbitTelemetryMiddleware
from loguru import logger
from opentelemetry import trace

from app import __version__

if TYPE_CHECKING:
    from loguru import Record

P = ParamSpec("P")
R = TypeVar("R")
Step = Callable[P, Coroutine[Any, Any, R]]

_TRACER = trace.get_tracer("page-metadata", __version__)


def traced(name: str) -> Callable[[Step[P, R]], Step[P, R]]:
    """Give each call of a coroutine function a span while there is an SDK.

    Without an SDK, OpenTelemetry's own decorator makes spans that do nothing. Those of all steps of
    a page take 5 % of the CPU time that the page costs a worker.
    """

    def decorate(step: Step[P, R]) -> Step[P, R]:
        in_span = _TRACER.start_as_current_span(name)(step)

        @wraps(step)
        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            return (in_span if _has_sdk() else step)(*args, **kwargs)

        return call

    return decorate


def start_tracing(service_name: str) -> None:
    """Send spans, and add their `trace_id` to log lines, if the environment names a collector."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    # Imported only if wanted: they add a tenth to the time that a process takes to start.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 (see above)
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (see above)
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (see above)
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (see above)

    resource = {"service.name": f"page-metadata-{service_name}", "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(resource))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    logger.configure(patcher=_add_trace_id)


def stop_tracing() -> None:
    """Send the spans that have not been sent yet. Blocks, for seconds if the collector is away."""
    # The API has no way to shut down; the SDK's provider has one.
    shut_down = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shut_down is not None:
        shut_down()


def message_tracing() -> list[Any]:
    """Return FastStream's middleware for spans, or nothing while there is no SDK.

    Without an SDK the middleware would cost 30 microseconds a message, and have no effect.
    """
    return [RabbitTelemetryMiddleware()] if _has_sdk() else []


def _has_sdk() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _add_trace_id(record: "Record") -> None:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record["extra"]["trace_id"] = trace.format_trace_id(context.trace_id)
