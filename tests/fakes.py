"""Hand-written stand-ins for the edges; `contract/` holds them to what the real ones do."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from app.errors import FetchError, HostBusy, PublisherNotReady
from app.models import (
    Busy,
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

MAX_INLINE_SOURCE_BYTES = 65_536

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
    """What the database keeps of a page; `claim` holds it until `lease_expires_at`."""

    url: str
    created_at: datetime
    updated_at: datetime
    status: PageStatus = PageStatus.QUEUED
    metadata: PageMetadata | None = None
    error: PageError | None = None
    attempts: int = 0
    request_id: UUID | None = None
    lease_expires_at: datetime | None = None
    claim: UUID | None = None
    ended_claim: UUID | None = None
    finished: bool = False
    alone: bool = False
    suspect: bool = False
    waiting: list[UUID] = field(default_factory=list)
    covered: list[UUID] = field(default_factory=list)

    def queue(self, request: PageRequest, now: datetime) -> None:
        """Wait for the first attempt of a request."""
        self.status, self.request_id, self.updated_at = PageStatus.QUEUED, request.request_id, now
        self.attempts, self.error, self.claim, self.lease_expires_at = 0, None, None, None
        self.finished, self.suspect = False, False


class FakePages:
    """Page records in memory; `failing` may be set to raise from every method.

    `clock`: the clock of the database, which nobody else reads.
    """

    def __init__(
        self,
        *,
        patience: timedelta = timedelta(minutes=10),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rows: dict[str, _Row] = {}
        self._patience = patience
        self._now = clock
        self.failing: Callable[[], Exception] | None = None

    def pass_time(self, url: str, seconds: float) -> None:
        """Make a record as old as if so many seconds had passed."""
        row, time = self._rows[url], timedelta(seconds=seconds)
        row.updated_at -= time
        row.lease_expires_at = row.lease_expires_at and row.lease_expires_at - time

    async def find(self, url: str) -> PageRecord | None:
        record = await self.find_with_source(url)
        source = record and record.metadata and record.metadata.page_source
        size = len(source.encode()) if source else 0
        if record is None or record.metadata is None or size <= MAX_INLINE_SOURCE_BYTES:
            return record
        metadata = replace(record.metadata, page_source=None)
        return replace(record, metadata=metadata, omitted_source_bytes=size)

    async def find_with_source(self, url: str) -> PageRecord | None:
        self._check()
        row = self._rows.get(url)
        return self._record(row) if row else None

    def _record(self, row: _Row) -> PageRecord:
        lease, now = row.lease_expires_at, self._now()
        still = lease < now if lease else row.updated_at < now - self._patience
        ended = row.status in (PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT)
        return PageRecord(
            url=row.url,
            status=row.status,
            metadata=row.metadata,
            error=row.error,
            attempts=row.attempts,
            request_id=row.request_id,
            created_at=row.created_at,
            updated_at=row.updated_at,
            lease_expires_at=lease,
            has_stalled=still and not ended,
        )

    async def note_queued(self, request: PageRequest) -> None:
        self._check()
        is_new, now = request.url not in self._rows, self._now()
        row = self._row(request.url, now)
        if request.request_id in row.covered:
            return
        if is_new or row.status is PageStatus.FAILED_PERMANENT:
            row.queue(request, now)
        if request.request_id not in row.waiting:
            row.waiting.append(request.request_id)

    async def reserve(self, request: PageRequest) -> bool:
        self._check()
        if request.url in self._rows:
            return False
        now = self._now()
        self._row(request.url, now).queue(request, now)
        return True

    async def reserve_again(self, request: PageRequest, stalled: PageRecord) -> bool:
        self._check()
        row = self._rows.get(request.url)
        if row is None or replace(self._record(row), has_stalled=stalled.has_stalled) != stalled:
            return False
        row.queue(request, self._now())
        return True

    async def release(self, request: PageRequest) -> None:
        self._check()
        if self._is_reserved(request):
            del self._rows[request.url]

    async def restore(self, stalled: PageRecord, request: PageRequest) -> None:
        self._check()
        if self._is_reserved(request):
            row = self._rows[request.url]
            row.status, row.request_id = PageStatus(stalled.status), stalled.request_id
            row.attempts, row.error = stalled.attempts, stalled.error
            row.updated_at, row.lease_expires_at = stalled.updated_at, stalled.lease_expires_at

    def _is_reserved(self, request: PageRequest) -> bool:
        row = self._rows.get(request.url)
        reserved = (PageStatus.QUEUED, request.request_id)
        return row is not None and (row.status, row.request_id) == reserved

    async def is_suspect(self, delivery: Delivery) -> bool:
        self._check()
        row = self._rows.get(delivery.request.url)
        if row is None or row.request_id != delivery.request.request_id or row.finished:
            return False
        return row.suspect or (delivery.redelivered and row.claim is not None)

    async def claim(
        self, delivery: Delivery, *, lease_seconds: float, alone: bool = False
    ) -> Claim | Coalesced | Busy:
        self._check()
        request, now = delivery.request, self._now()
        row = self._row(request.url, now)
        own = row.request_id == request.request_id
        if not self._is_claimable(row, delivery, now):
            if not own and request.request_id not in row.covered:
                return Busy()
            return Coalesced("answered" if row.finished else "in_progress")
        left_behind = own and delivery.redelivered and row.claim is not None
        lost_alone = left_behind and row.alone
        row.suspect = left_behind or (own and row.suspect)
        row.attempts = max(row.attempts, request.attempt) if own else request.attempt
        refreshes = row.status is PageStatus.COMPLETED
        row.status = PageStatus.COMPLETED if refreshes else PageStatus.IN_PROGRESS
        row.covered += [*row.waiting, request.request_id]
        row.waiting, row.finished, row.alone = [], False, alone
        row.request_id, row.claim, row.updated_at = request.request_id, uuid4(), now
        row.lease_expires_at = now + timedelta(seconds=lease_seconds)
        return Claim(
            request.url, request.request_id, row.attempts, refreshes, row.claim, lost_alone
        )

    def _is_claimable(self, row: _Row, delivery: Delivery, now: datetime) -> bool:
        request = delivery.request
        lease = row.lease_expires_at
        is_held = row.claim is not None and lease is not None and lease > now
        if row.request_id == request.request_id:
            takes_over = delivery.redelivered or delivery.deferrals > 0
            is_left = not is_held or takes_over
            return row.attempts < request.attempt or (not row.finished and is_left)
        lease_is_over = not row.finished and row.claim is not None
        return not is_held and (request.request_id not in row.covered or lease_is_over)

    async def complete(self, claim: Claim, metadata: PageMetadata) -> PageStatus | None:
        return self._end(claim, PageStatus.COMPLETED, None, metadata, finishes=True)

    async def fail(
        self, claim: Claim, error: PageError, metadata: PageMetadata | None = None
    ) -> PageStatus | None:
        return self._end(claim, PageStatus.FAILED_PERMANENT, error, metadata, finishes=True)

    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None:
        return self._end(claim, PageStatus.FAILED_RETRYABLE, error, None, finishes=False)

    async def abandon(self, claim: Claim) -> None:
        self._check()
        if self._release(claim, finishes=False):
            self._rows[claim.url].attempts = claim.attempt - 1

    def _end(
        self,
        claim: Claim,
        status: PageStatus,
        error: PageError | None,
        metadata: PageMetadata | None,
        *,
        finishes: bool,
    ) -> PageStatus | None:
        self._check()
        row = self._rows[claim.url]
        if self._release(claim, finishes=finishes):
            row.status = PageStatus.COMPLETED if claim.refreshes else status
            keeps_result = (claim.refreshes and error is not None) or not finishes
            row.metadata = row.metadata if keeps_result else metadata
            row.error = error
        return row.status if row.ended_claim == claim.token else None

    def _release(self, claim: Claim, *, finishes: bool) -> bool:
        row = self._rows[claim.url]
        if row.claim != claim.token:
            return False
        row.claim, row.ended_claim, row.lease_expires_at = None, claim.token, None
        row.finished, row.updated_at = finishes, self._now()
        return True

    def _row(self, url: str, now: datetime) -> _Row:
        return self._rows.setdefault(url, _Row(url, created_at=now, updated_at=now))

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing()
