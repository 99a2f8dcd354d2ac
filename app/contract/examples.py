"""An event of each kind, for the AsyncAPI documents."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from app.models import ErrorKind, EventKind, PageError, PageEvent, PageStatus

_FETCHED = datetime(2026, 1, 1, tzinfo=UTC)
_STORED = datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)

_COMPLETED = PageEvent(
    event_id=UUID("0b7e5e0e-53a5-4f6a-8f2c-4c4b1f6f5a10"),
    kind=EventKind.COMPLETED,
    url="https://example.com/",
    time=_STORED,
    request_id=UUID("6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11"),
    status=PageStatus.COMPLETED,
    attempts=1,
    final_url="https://example.com/",
    status_code=200,
    content_type="text/html",
    title="Example Domain",
    body_sha256="61c0f44a8bb1ea11cd87e0bfcb0ef0a3d2df6f6cde4ee2fa4c9d1bd3c7c9a5c1",
    fetched_at=_FETCHED,
    checked_at=_STORED,
)

EVENTS = (
    _COMPLETED,
    replace(
        _COMPLETED,
        event_id=UUID("4c6f2d0b-8a57-4d2e-9a0b-8d4a6c1b7e21"),
        kind=EventKind.UNCHANGED,
        previous_body_sha256=_COMPLETED.body_sha256,
    ),
    PageEvent(
        event_id=UUID("7d3a1c52-1f4e-4b7d-8c39-2e5b9a6d4f32"),
        kind=EventKind.FAILED,
        url="https://example.com/gone",
        time=_STORED,
        request_id=UUID("b1d9c3a4-6e2f-4f0a-9c7e-5a8d2e1f3b43"),
        status=PageStatus.FAILED_PERMANENT,
        attempts=5,
        checked_at=_STORED,
        error=PageError(ErrorKind.TIMEOUT, "no answer within 20 seconds"),
    ),
    PageEvent(
        event_id=UUID("e5f8a2b6-9d3c-4a1e-b7f0-6c9e4d2a1b54"),
        kind=EventKind.DELETED,
        url="https://example.com/",
        time=_STORED,
        request_id=None,
        status=PageStatus.DELETED,
        attempts=0,
        previous_body_sha256=_COMPLETED.body_sha256,
    ),
)
