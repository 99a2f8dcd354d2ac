"""Traces through both processes, on when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

`start_tracing()` is called by the two `main.py` files alone. Without the variable nothing of
OpenTelemetry is imported, and what is asked of `NoTracing` comes back as it is.
"""

import os
from typing import Any, Protocol, TypeVar

from starlette.types import ASGIApp

T = TypeVar("T")


class Tracing(Protocol):
    """Puts spans around what a process is made of."""

    def middlewares(self) -> list[Any]:
        """Return what carries the trace through the broker, in the messages' headers."""
        ...

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application with a span for each request, which continues its caller's."""
        ...

    def traced(self, it: T, name: str) -> T:
        """Return the object with a span `<name>.<method>` for each call of a coroutine of it."""
        ...

    def stop(self) -> None:
        """Send what has not been sent yet; may block for some seconds."""
        ...


class NoTracing:
    """Leaves everything as it is."""

    def middlewares(self) -> list[Any]:
        """Return none."""
        return []

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application itself."""
        return app

    def traced(self, it: T, name: str) -> T:
        """Return the object itself."""
        del name
        return it

    def stop(self) -> None:
        """Do nothing."""


NO_TRACING = NoTracing()


def start_tracing(service_name: str) -> Tracing:
    """Return the tracing that the environment asks for."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return NO_TRACING
    from app.runtime.telemetry import export_traces  # noqa: PLC0415 (not imported unless it is wanted)

    return export_traces(service_name)
