"""Examples of pages for the OpenAPI document. Problems have their own, in `problems.py`."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.api.problems import INVALID_URL
from app.api.schemas import (
    BatchAnswer,
    BatchProblem,
    BatchResult,
    Page,
    PageListAnswer,
    QueuedAnswer,
    RequestState,
    listed_page,
    page_answer,
)
from app.models import (
    LISTED_FIELDS,
    SUMMARY_FIELDS,
    AlternatePage,
    Cookie,
    Document,
    ErrorKind,
    Header,
    LinkedResource,
    PageError,
    PageIcon,
    PageImage,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    Redirect,
    Refresh,
    RequestRecord,
)

_URL = "https://example.com/"
_REQUESTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
_FETCHED_AT = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
_REQUEST = PageRequest(_URL, UUID("6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11"), _REQUESTED_AT)

_QUEUED = PageRecord(
    url=_URL,
    status=PageStatus.QUEUED,
    metadata=None,
    error=None,
    attempts=0,
    request_id=_REQUEST.request_id,
    created_at=_REQUESTED_AT,
    updated_at=_FETCHED_AT,
)
_ICON = PageIcon("https://example.com/icon.svg", "any", "image/svg+xml", "icon")
_DOCUMENT = Document(
    title="Example",
    description="A page for examples.",
    site_name="Example Domain",
    type="article",
    language="en",
    canonical_url=_URL,
    image=PageImage("https://example.com/large.jpg", "A beach at dawn", 1200, 630),
    icon=_ICON,
    icons=(PageIcon("https://example.com/favicon.ico", "16x16", None, "icon"), _ICON),
    theme_color="#336699",
    author="Jane Doe, John Roe",
    published_at=datetime(2025, 12, 1, 9, 30, tzinfo=UTC),
    modified_at=datetime(2025, 12, 24, tzinfo=UTC),
    feeds=(LinkedResource("https://example.com/feed", "application/rss+xml", "News"),),
    oembed=(LinkedResource("https://example.com/oembed", "application/json+oembed", None),),
    alternates=(AlternatePage("https://example.com/de/", "de"),),
    robots=("noarchive", "max-snippet:50"),
    open_graph={"og:type": ("article",), "og:image": ("/large.jpg", "/small.jpg")},
    twitter={"twitter:card": "summary_large_image"},
    json_ld=({"@context": "https://schema.org", "@type": "Article", "headline": "Example"},),
    extractor_version=2,
    truncated=False,
)
_METADATA = PageMetadata(
    final_url=_URL,
    status_code=200,
    http_version="HTTP/1.1",
    headers=(Header("content-type", "text/html; charset=UTF-8"),),
    cookies=(Cookie("session", "b7f1", "example.com", "/", max_age=3600, same_site="Lax"),),
    page_source="<!doctype html><title>Example</title>",
    page_source_truncated=False,
    content_type="text/html",
    charset="utf-8",
    body_bytes=37,
    body_sha256="61c0f44a8bb1ea11cd87e0bfcb0ef0a3d2df6f6cde4ee2fa4c9d1bd3c7c9a5c1",
    redirects=(Redirect("http://example.com/", 301, _URL),),
    remote_address="93.184.215.14",
    elapsed_ms=41.7,
    fetched_at=_FETCHED_AT,
    document=_DOCUMENT,
)


def _page(status: PageStatus, **changes: Any) -> Page:
    return page_answer(replace(_QUEUED, status=status, attempts=1, **changes))


_COMPLETED = {"metadata": _METADATA, "checked_at": _FETCHED_AT}
_TIMED_OUT = PageError(ErrorKind.TIMEOUT, "no answer in time")

QUEUED_ANSWER = {"The request is queued": QueuedAnswer.of(_REQUEST)}
FRESH = {"Checked within max_age": _page(PageStatus.COMPLETED, **_COMPLETED)}
SOURCE = {"A page": _METADATA.page_source}
ENDED = {
    "The page as its server sent it": _page(PageStatus.COMPLETED, **_COMPLETED),
    "A page whose refresh has failed": _page(
        PageStatus.COMPLETED,
        **_COMPLETED,
        stale=True,
        refresh=Refresh(
            PageStatus.FAILED_PERMANENT, _REQUEST.request_id, _REQUESTED_AT, 5, _TIMED_OUT
        ),
    ),
    "A page that cannot be fetched": _page(
        PageStatus.FAILED_PERMANENT,
        error=PageError(ErrorKind.DNS, "the host name could not be resolved"),
        checked_at=_FETCHED_AT,
    ),
}
PENDING = {
    "Waiting for a worker": page_answer(_QUEUED),
    "Being fetched": _page(PageStatus.IN_PROGRESS),
    "To be tried again": _page(PageStatus.FAILED_RETRYABLE, error=_TIMED_OUT),
}
_LISTED = {name: getattr(_METADATA, name) for name in LISTED_FIELDS} | {
    "document": {name: getattr(_DOCUMENT, name) for name in SUMMARY_FIELDS}
}
LISTS = {
    "The beginning of the list": PageListAnswer(
        items=[
            listed_page(
                replace(
                    _QUEUED,
                    status=PageStatus.COMPLETED,
                    attempts=1,
                    checked_at=_FETCHED_AT,
                    selected=_LISTED,
                )
            ),
            page_answer(_QUEUED),
        ],
        next="1767225605000-6955bb854d049e683c8c052b",
    ),
}
BATCHES = {
    "One queued, one fresh enough, one refused": BatchAnswer(
        items=[
            BatchResult(url=_URL, status=PageStatus.QUEUED, request_id=_REQUEST.request_id),
            BatchResult(
                url="https://example.com/news",
                status=PageStatus.COMPLETED,
                request_id=UUID("0c5be2b5-53ea-4e65-8fd5-a7a3a9e0e7f2"),
            ),
            BatchProblem(
                url="ftp://example.com/",
                problem=INVALID_URL.problem(INVALID_URL.examples["No scheme"]),
            ),
        ]
    ),
}
REQUESTS = {
    "Answered": RequestState.of(
        RequestRecord(_REQUEST.request_id, _URL, PageStatus.COMPLETED, 1, None, _REQUEST.request_id)
    ),
    "Answered by the fetch for another request, which failed": RequestState.of(
        RequestRecord(
            _REQUEST.request_id,
            _URL,
            PageStatus.FAILED_PERMANENT,
            5,
            _TIMED_OUT,
            UUID("0c5be2b5-53ea-4e65-8fd5-a7a3a9e0e7f2"),
        )
    ),
}
