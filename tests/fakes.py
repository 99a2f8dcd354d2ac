"""Hand-written stand-ins for the edges; `contract/` holds them to what the real ones do."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from app.errors import FetchError, HostBusy, PublisherNotReady
from app.models import (
    Claim,
    Coalesced,
    Cookie,
    Delivery,
    ErrorKind,
    Header,
    PageError,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    Redirect,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://example.com/"


def a_request(url: str = URL, *, at: datetime = NOW, attempt: int = 1) -> PageRequest:
    return PageRequest(url=url, request_id=uuid4(), requested_at=at, attempt=attempt)


def a_page(status_code: int = 200, **changes: object) -> PageMetadata:
    page = PageMetadata(
        final_url=URL,
        status_code=status_code,
        http_version="HTTP/1.1",
        headers=(
            Header("content-type", "text/html"),
            Header("x-twice", "1"),
            Header("x-twice", "2"),
        ),
        cookies=(Cookie("a", "b", domain="example.com", path="/", secure=True, same_site="Lax"),),
        page_source="<!doctype html>",
        page_source_truncated=False,
        content_type="text/html",
        charset="utf-8",
        body_bytes=15,
        body_sha256="0" * 64,
        redirects=(Redirect("http://example.com/", 301, URL),),
        remote_address="93.184.215.14",
        elapsed_ms=41.7,
        fetched_at=NOW,
    )
    return replace(page, **changes)  # type: ignore[arg-type]  # a test names what it changes


def a_timeout() -> FetchError:
    return FetchError(ErrorKind.TIMEOUT, "no answer in time", retryable=True)


class FakePublisher:
    """Keeps what is published; refuses everything while `refusing` is set."""

    def __init__(self) -> None:
        self.published: list[PageRequest] = []
        self.refusing = False

    async def publish(self, request: PageRequest) -> None:
        if self.refusing:
            raise PublisherNotReady("publisher_not_ready")
        self.published.append(request)


class FakeFetcher:
    """Answers with what it was given, in order."""

    def __init__(self, *results: PageMetadata | FetchError | HostBusy) -> None:
        self._results = deque(results)
        self.fetched: list[str] = []

    async def fetch(self, url: str) -> PageMetadata:
        self.fetched.append(url)
        result = self._results.popleft()
        if isinstance(result, FetchError | HostBusy):
            raise result
        return result


@dataclass
class _Row:
    record: PageRecord
    answers_until: datetime | None = None
    claim: Claim | None = None


class FakePages:
    """Page records in memory; `failing` may be set to raise from every method."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self.failing: Callable[[], Exception] | None = None

    async def find(self, url: str) -> PageRecord | None:
        self._check()
        row = self._rows.get(url)
        return row.record if row else None

    async def note_queued(self, request: PageRequest) -> None:
        self._check()
        row = self._rows.get(request.url)
        if row is None:
            self._rows[request.url] = _queued_row(request)
            return
        record = row.record
        failed = record.status is PageStatus.FAILED_PERMANENT
        if failed and record.updated_at < request.requested_at:
            queued = _queued_row(request).record
            row.record = replace(queued, created_at=record.created_at, metadata=record.metadata)

    async def reserve(self, request: PageRequest) -> bool:
        self._check()
        if request.url in self._rows:
            return False
        self._rows[request.url] = _queued_row(request)
        return True

    async def reserve_again(self, request: PageRequest, stalled: PageRecord) -> bool:
        self._check()
        record = self._rows[request.url].record
        if record != stalled:
            return False
        queued = _queued_row(request)
        queued.record = replace(queued.record, created_at=record.created_at)
        self._rows[request.url] = queued
        return True

    async def release(self, request: PageRequest) -> None:
        self._check()
        record = self._rows[request.url].record
        if record.status is PageStatus.QUEUED and record.request_id == request.request_id:
            del self._rows[request.url]

    async def restore(self, stalled: PageRecord, request: PageRequest) -> None:
        self._check()
        row = self._rows[request.url]
        if (row.record.status, row.record.request_id) == (PageStatus.QUEUED, request.request_id):
            row.record = stalled

    async def claim(
        self, delivery: Delivery, *, now: datetime, lease_seconds: float
    ) -> Claim | Coalesced:
        self._check()
        request = delivery.request
        row = self._rows.setdefault(request.url, _queued_row(request, at=now))
        if row.answers_until and row.answers_until > request.requested_at:
            return Coalesced("answered")
        same = row.record.request_id == request.request_id
        is_later = row.record.attempts < request.attempt
        comes_back = same and (delivery.redelivered or delivery.deferrals > 0 or is_later)
        lease = row.record.lease_expires_at
        if lease and lease > now and not comes_back:
            return Coalesced("in_progress")
        counted = row.record.attempts + int(delivery.redelivered)
        attempts = max(counted, request.attempt) if same else request.attempt
        refreshes = row.record.status is PageStatus.COMPLETED
        row.record = replace(
            row.record,
            status=PageStatus.COMPLETED if refreshes else PageStatus.IN_PROGRESS,
            attempts=attempts,
            request_id=request.request_id,
            updated_at=now,
            lease_expires_at=now + timedelta(seconds=lease_seconds),
        )
        row.claim = Claim(request.url, request.request_id, attempts, now, refreshes, uuid4())
        return row.claim

    async def complete(self, claim: Claim, metadata: PageMetadata) -> PageStatus | None:
        return self._end(claim, PageStatus.COMPLETED, None, metadata, ends_request=True)

    async def fail(
        self, claim: Claim, error: PageError, metadata: PageMetadata | None = None
    ) -> PageStatus | None:
        return self._end(claim, PageStatus.FAILED_PERMANENT, error, metadata, ends_request=True)

    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None:
        return self._end(claim, PageStatus.FAILED_RETRYABLE, error, None, ends_request=False)

    async def abandon(self, claim: Claim) -> None:
        self._check()
        row = self._rows[claim.url]
        if row.claim == claim and row.record.request_id == claim.request_id:
            row.claim = None
            row.record = replace(row.record, attempts=claim.attempt - 1, lease_expires_at=None)

    def _end(
        self,
        claim: Claim,
        status: PageStatus,
        error: PageError | None,
        metadata: PageMetadata | None,
        *,
        ends_request: bool,
    ) -> PageStatus | None:
        self._check()
        row = self._rows[claim.url]
        if row.claim != claim or row.record.request_id != claim.request_id:
            return None
        keeps = (claim.refreshes and error is not None) or (metadata is None and not ends_request)
        row.answers_until = claim.started_at if ends_request else row.answers_until
        row.record = replace(
            row.record,
            status=PageStatus.COMPLETED if claim.refreshes else status,
            error=error,
            metadata=row.record.metadata if keeps else metadata,
            updated_at=claim.started_at,
            lease_expires_at=None,
        )
        return row.record.status

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing()


def _queued_row(request: PageRequest, *, at: datetime | None = None) -> _Row:
    moment = at or request.requested_at
    record = PageRecord(
        url=request.url,
        status=PageStatus.QUEUED,
        metadata=None,
        error=None,
        attempts=0,
        request_id=request.request_id,
        created_at=moment,
        updated_at=moment,
    )
    return _Row(record)
