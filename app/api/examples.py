"""Examples for the OpenAPI document; tests hold them to their schemas and to what is answered."""

from http import HTTPStatus
from typing import Any

Example = dict[str, Any]
Examples = dict[str, Example]

URL = "https://example.com/"
_REQUEST_ID = "6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11"
_ABOUT = {
    "url": URL,
    "request_id": _REQUEST_ID,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:05Z",
}
_METADATA = {
    "final_url": URL,
    "status_code": 200,
    "http_version": "HTTP/1.1",
    "headers": [{"name": "content-type", "value": "text/html; charset=UTF-8"}],
    "cookies": [
        {
            "name": "session",
            "value": "b7f1",
            "domain": "example.com",
            "path": "/",
            "expires": None,
            "max_age": 3600,
            "secure": True,
            "http_only": True,
            "same_site": "Lax",
        }
    ],
    "page_source": "<!doctype html><title>Example</title>",
    "page_source_truncated": False,
    "content_type": "text/html",
    "charset": "utf-8",
    "body_bytes": 37,
    "body_sha256": "61c0f44a8bb1ea11cd87e0bfcb0ef0a3d2df6f6cde4ee2fa4c9d1bd3c7c9a5c1",
    "redirects": [{"url": "http://example.com/", "status_code": 301, "location": URL}],
    "remote_address": "93.184.215.14",
    "elapsed_ms": 41.7,
    "fetched_at": "2026-01-01T00:00:05Z",
}

QUEUED_ANSWER = {
    "The request is queued": {"status": "QUEUED", "url": URL, "request_id": _REQUEST_ID},
}
ENDED: Examples = {
    "The page as it was sent": {
        **_ABOUT,
        "status": "COMPLETED",
        "metadata": _METADATA,
        "attempts": 1,
    },
    "A page that can't be had": {
        **_ABOUT,
        "status": "FAILED_PERMANENT",
        "error": {"kind": "dns", "message": "the host name could not be resolved"},
        "metadata": None,
        "attempts": 1,
    },
}
PENDING: Examples = {
    "Waiting for a worker": {**_ABOUT, "status": "QUEUED", "error": None, "attempts": 0},
    "Being fetched": {**_ABOUT, "status": "IN_PROGRESS", "error": None, "attempts": 1},
    "To be tried again": {
        **_ABOUT,
        "status": "FAILED_RETRYABLE",
        "error": {"kind": "timeout", "message": "no answer in time"},
        "attempts": 1,
    },
}


def _problem(status: HTTPStatus, slug: str, title: str, detail: str, **more: Any) -> Example:
    kind = f"urn:page-metadata:problem:{slug}"
    return {"type": kind, "title": title, "status": int(status), "detail": detail, **more}


def _not_queued(detail: str) -> Example:
    return _problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "not-queued", "The request could not be queued", detail
    )


BAD_URL = {
    "Not a URL that is taken": _problem(
        HTTPStatus.BAD_REQUEST,
        "invalid-url",
        "The URL can't be taken",
        "only absolute http:// and https:// URLs are taken",
    ),
}


def no_url(where: str) -> Examples:
    """Return the example of a request without a URL, which belongs to its body or its query."""
    field = f"{where}.url"
    return {
        "No URL at all": _problem(
            HTTPStatus.BAD_REQUEST,
            "invalid-request",
            "The request is not valid",
            f"{field}: Field required",
            errors=[{"field": field, "message": "Field required"}],
        ),
    }


_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
TOO_LARGE = {
    "Too large": _problem(
        _TOO_LARGE,
        _TOO_LARGE.phrase.lower().replace(" ", "-"),
        _TOO_LARGE.phrase,
        "the body is larger than 16384 bytes",
    ),
}
NOT_QUEUED = {
    "The queue is full": _not_queued("the queue is full"),
    "No broker": _not_queued("the message broker is not connected at the moment"),
    "No confirm": _not_queued("the message broker did not confirm the message in time"),
}
NO_DATABASE = {
    "No database": _problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "database-unavailable",
        "The database is not available",
        "the database did not answer",
    ),
}
UNFORESEEN = {
    "A mistake of ours": _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Something went wrong",
        "The error has been logged; please try again later.",
    ),
}

LIVE: Examples = {"Alive": {"status": "ok"}}
READY: Examples = {"Ready": {"status": "ready"}}
NOT_READY: Examples = {
    "No broker": {"status": "not_ready", "reason": "publisher is RECONNECTING"},
    "No database": {"status": "not_ready", "reason": "database does not answer"},
}
