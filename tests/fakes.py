"""Hand-written stand-ins for the edges; `contract/` holds them to what the real ones do."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from app.errors import FetchError, HostBusy, PublisherNotReady, PublishFault
from app.models import (
    MAX_INLINE_SOURCE_BYTES,
    METADATA_FIELDS,
    Awaited,
    Busy,
    Claim,
    Coalesced,
    Cookie,
    Delivery,
    ErrorKind,
    EventKind,
    Header,
    NotModified,
    PageError,
    PageEvent,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    Redirect,
    Refresh,
    RequestRecord,
    StoredResult,
    Validators,
)
from app.store.claims import KEPT_COVERED, KEPT_OUTCOMES
from app.validators import validators_of

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
            raise PublisherNotReady(PublishFault.NOT_READY)
        self.published.append(request)


class FakeFetcher:
    """Answers with what it was given, in order."""

    def __init__(self, *results: PageMetadata | NotModified | FetchError | HostBusy) -> None:
        self._results = deque(results)
        self.fetched: list[str] = []
        self.validators: list[Validators | None] = []

    async def fetch(
        self, url: str, validators: Validators | None = None
    ) -> PageMetadata | NotModified:
        self.fetched.append(url)
        self.validators.append(validators)
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
    waiting_since: datetime | None = None
    covered: dict[UUID, int] = field(default_factory=dict)
    """Requests, and the number of the outcome that is the answer to each."""
    outcomes: list[RequestRecord] = field(default_factory=list)
    events: list[PageEvent] = field(default_factory=list)
    was_deleted: bool = False
    requested_at: datetime | None = None
    checked_at: datetime | None = None
    validators: Validators | None = None
    revision: int = 0

    @property
    def is_deleted(self) -> bool:
        return self.status is PageStatus.DELETED

    @property
    def refreshes(self) -> bool:
        """Whether a refresh is to come, or under way."""
        return self.status is PageStatus.COMPLETED and (bool(self.waiting) or not self.finished)

    def queue(self, request: PageRequest, now: datetime) -> None:
        """Wait for the first attempt of a request."""
        self.status, self.request_id, self.updated_at = PageStatus.QUEUED, request.request_id, now
        self.attempts, self.error, self.claim, self.lease_expires_at = 0, None, None, None
        self.finished, self.suspect, self.requested_at = False, False, now
        self.revision += 1

    def wait(self, request_id: UUID, now: datetime) -> None:
        """List a request as waiting for a fetch."""
        self.waiting_since = self.waiting_since if self.waiting else now
        self.waiting.append(request_id)

    def pending_status(self) -> PageStatus:
        """Tell how far a request has come that has no outcome yet."""
        if self.claim is not None:
            return PageStatus.IN_PROGRESS
        return PageStatus.FAILED_RETRYABLE if self.error else PageStatus.QUEUED

    def refresh(self) -> Refresh | None:
        """Tell what is known of a refresh."""
        if self.status is not PageStatus.COMPLETED:
            return None
        if self.finished and self.waiting:
            return Refresh(PageStatus.QUEUED, self.waiting[0], self.waiting_since, 0, None)
        if self.finished and not self.error:
            return None
        status = PageStatus.FAILED_PERMANENT if self.finished else self.pending_status()
        return Refresh(status, self.request_id, self.requested_at, self.attempts, self.error)


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
        self.outbox: FakeOutbox | None = None

    def pass_time(self, url: str, seconds: float) -> None:
        """Make a record as old as if so many seconds had passed."""
        row, time = self._rows[url], timedelta(seconds=seconds)
        row.updated_at -= time
        row.checked_at = row.checked_at and row.checked_at - time
        row.lease_expires_at = row.lease_expires_at and row.lease_expires_at - time

    def replace_result(self, url: str, metadata: PageMetadata) -> None:
        """Change the result behind the back of whoever holds the page."""
        self._rows[url].metadata = metadata

    async def find(self, url: str, fields: frozenset[str] = METADATA_FIELDS) -> PageRecord | None:
        self._check()
        row = self._known(url)
        return self._shown(row, fields) if row else None

    async def find_with_source(
        self, url: str, fields: frozenset[str] = METADATA_FIELDS
    ) -> PageRecord | None:
        self._check()
        row = self._known(url)
        return _with_only(fields, self._record(row)) if row else None

    def _known(self, url: str) -> _Row | None:
        row = self._rows.get(url)
        return None if row is None or row.is_deleted else row

    async def answered(self, waits: Collection[Awaited]) -> set[Awaited]:
        self._check()
        return {it for it in waits if it.url in self._rows and self._is_over(it)}

    def _is_over(self, wait: Awaited) -> bool:
        row = self._rows[wait.url]
        if wait.request_id is None:
            return row.status in (PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT)
        next_outcome = len(row.outcomes)
        return row.covered.get(wait.request_id, next_outcome) < next_outcome

    def _shown(self, row: _Row, fields: frozenset[str]) -> PageRecord:
        """Return the record with some fields, without its source if that is large."""
        record = self._record(row)
        source = record.metadata and record.metadata.page_source
        size = len(source.encode()) if source and "page_source" in fields else 0
        if record.metadata is None or size <= MAX_INLINE_SOURCE_BYTES:
            return _with_only(fields, record)
        metadata = replace(record.metadata, page_source=None)
        return _with_only(fields, replace(record, metadata=metadata, omitted_source_bytes=size))

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
            has_stalled=still and (not ended or row.refreshes),
            checked_at=row.checked_at,
            refresh=row.refresh(),
            age_seconds=(now - row.checked_at).total_seconds() if row.checked_at else None,
            unchanged_seconds=(now - row.updated_at).total_seconds(),
            revision=row.revision,
        )

    async def find_request(self, request_id: UUID) -> RequestRecord | None:
        self._check()
        for row in self._rows.values():
            if request_id in row.waiting:
                return RequestRecord(request_id, row.url, PageStatus.QUEUED, 0, None, None)
            if request_id in row.covered:
                return self._outcome(row, request_id)
        return None

    @staticmethod
    def _outcome(row: _Row, request_id: UUID) -> RequestRecord | None:
        number = row.covered[request_id]
        if number == len(row.outcomes):
            status, by = row.pending_status(), row.request_id
            return RequestRecord(request_id, row.url, status, row.attempts, row.error, by)
        if number < len(row.outcomes) - KEPT_OUTCOMES:
            return None
        return replace(row.outcomes[number], request_id=request_id)

    async def note_queued(self, request: PageRequest) -> None:
        self._check()
        is_new, now = self._known(request.url) is None, self._now()
        row = self._row(request.url, now)
        if request.request_id in row.covered:
            return
        if is_new or row.status is PageStatus.FAILED_PERMANENT:
            row.queue(request, now)
        if request.request_id not in row.waiting:
            if row.status is PageStatus.COMPLETED and not row.waiting:
                row.updated_at, row.revision = now, row.revision + 1
            row.wait(request.request_id, now)

    async def reserve(self, request: PageRequest) -> bool:
        self._check()
        if self._known(request.url):
            return False
        now = self._now()
        row = self._row(request.url, now)
        row.queue(request, now)
        row.wait(request.request_id, now)
        return True

    async def reserve_again(self, request: PageRequest, record: PageRecord) -> bool:
        self._check()
        row, now = self._rows.get(request.url), self._now()
        if row is None or not self._is_unchanged(row, record):
            return False
        row.queue(request, now)
        row.wait(request.request_id, now)
        return True

    async def reserve_refresh(
        self, request: PageRequest, record: PageRecord, fields: frozenset[str] = METADATA_FIELDS
    ) -> PageRecord | None:
        self._check()
        row, now = self._rows.get(request.url), self._now()
        if row is None or not self._is_unchanged(row, record):
            return None
        row.waiting_since = now
        row.waiting.append(request.request_id)
        row.claim, row.lease_expires_at = None, None
        row.updated_at, row.revision = now, row.revision + 1
        return self._shown(row, fields)

    async def withdraw_refresh(self, request: PageRequest, record: PageRecord) -> None:
        self._check()
        row = self._rows.get(request.url)
        if row is not None and request.request_id in row.waiting:
            row.waiting.remove(request.request_id)
            row.updated_at, row.lease_expires_at = record.updated_at, record.lease_expires_at
            row.revision += 1

    @staticmethod
    def _is_unchanged(row: _Row, record: PageRecord) -> bool:
        return (row.updated_at, row.revision) == (record.updated_at, record.revision)

    async def release(self, request: PageRequest) -> None:
        self._check()
        if not self._is_reserved(request):
            return
        row = self._rows[request.url]
        if row.was_deleted:
            row.status, row.finished, row.waiting = PageStatus.DELETED, True, []
        else:
            del self._rows[request.url]

    async def restore(self, record: PageRecord, request: PageRequest) -> None:
        self._check()
        if self._is_reserved(request):
            row = self._rows[request.url]
            row.waiting.remove(request.request_id)
            row.status, row.request_id = PageStatus(record.status), record.request_id
            row.attempts, row.error, row.finished = record.attempts, record.error, record.has_ended
            row.updated_at, row.lease_expires_at = record.updated_at, record.lease_expires_at
            row.revision += 1

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
        asked_for = row.waiting_since if row.waiting else now
        row.requested_at = (own and row.requested_at) or asked_for
        row.error = row.error if own else None
        row.attempts = max(row.attempts, request.attempt) if own else request.attempt
        refreshes = row.status is PageStatus.COMPLETED
        row.status = PageStatus.COMPLETED if refreshes else PageStatus.IN_PROGRESS
        earlier = list(row.covered.items())[-KEPT_COVERED:]
        now_covered = dict.fromkeys([*row.waiting, request.request_id], len(row.outcomes))
        row.covered = {key: it for key, it in earlier if key not in now_covered} | now_covered
        row.waiting, row.finished, row.alone = [], False, alone
        row.request_id, row.claim, row.updated_at = request.request_id, uuid4(), now
        row.lease_expires_at = now + timedelta(seconds=lease_seconds)
        row.revision += 1
        result = row.metadata if refreshes else None
        return Claim(
            request.url,
            request.request_id,
            row.attempts,
            refreshes,
            row.claim,
            lost_alone,
            len(row.outcomes),
            _stored_result(result) if result else None,
            row.validators if refreshes else None,
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

    async def complete(
        self, claim: Claim, metadata: PageMetadata, event: PageEvent | None = None
    ) -> PageStatus | None:
        if ended := self._end(claim, PageStatus.COMPLETED, None, event, finishes=True):
            self._rows[claim.url].metadata = metadata
            self._rows[claim.url].validators = validators_of(metadata)
        return ended

    async def confirm(self, claim: Claim, event: PageEvent | None = None) -> PageStatus | None:
        result = self._rows[claim.url].metadata
        if result is None or result.body_sha256 != claim.body_sha256:
            return None
        return self._end(claim, PageStatus.COMPLETED, None, event, finishes=True)

    async def fail(
        self,
        claim: Claim,
        error: PageError,
        metadata: PageMetadata | None = None,
        event: PageEvent | None = None,
    ) -> PageStatus | None:
        ended = self._end(claim, PageStatus.FAILED_PERMANENT, error, event, finishes=True)
        if ended and not claim.refreshes:
            self._rows[claim.url].metadata = metadata
        return ended

    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None:
        return self._end(claim, PageStatus.FAILED_RETRYABLE, error, finishes=False)

    async def abandon(self, claim: Claim) -> None:
        self._check()
        if self._release(claim, finishes=False):
            row = self._rows[claim.url]
            row.attempts = claim.attempt - 1
            if not claim.refreshes:
                was_tried = row.attempts > 0
                row.status = PageStatus.FAILED_RETRYABLE if was_tried else PageStatus.QUEUED

    async def find_events(self, request: PageRequest) -> tuple[PageEvent, ...]:
        self._check()
        row = self._rows.get(request.url)
        return tuple(it for it in row.events if it.request_id == request.request_id) if row else ()

    async def delete(self, url: str, *, tells: bool) -> PageEvent | None:
        self._check()
        row, now = self._known(url), self._now()
        if row is None:
            return None
        previous = row.metadata.body_sha256 if row.metadata else None
        event = PageEvent(
            *(uuid4(), EventKind.DELETED, url, now, None, PageStatus.DELETED, 0),
            previous_body_sha256=previous,
        )
        last = [] if row.request_id is None else [row.request_id]
        row.covered |= dict.fromkeys([*row.waiting, *last], len(row.outcomes))
        row.outcomes.append(RequestRecord(uuid4(), url, PageStatus.DELETED, 0, None, None))
        row.status, row.finished, row.was_deleted = PageStatus.DELETED, True, True
        row.waiting, row.request_id, row.claim, row.lease_expires_at = [], None, None, None
        row.metadata, row.validators, row.checked_at, row.error = None, None, None, None
        untold, row.events = row.events[-1:], [event]
        row.attempts, row.updated_at = 0, now
        row.revision += 1
        if tells and self.outbox is not None:
            self.outbox.events.extend([*untold, event])
        return event if tells else None

    def _end(
        self,
        claim: Claim,
        status: PageStatus,
        error: PageError | None,
        event: PageEvent | None = None,
        *,
        finishes: bool,
    ) -> PageStatus | None:
        self._check()
        row = self._rows[claim.url]
        if self._release(claim, finishes=finishes):
            row.status = PageStatus.COMPLETED if claim.refreshes else status
            row.error = error
            if finishes and not (claim.refreshes and error):
                row.checked_at = row.updated_at
            if finishes:
                ended = (claim.url, status, claim.attempt, error, claim.request_id)
                row.outcomes.append(RequestRecord(claim.request_id, *ended))
            if event is not None:
                row.events.append(event)
        return row.status if row.ended_claim == claim.token else None

    def _release(self, claim: Claim, *, finishes: bool) -> bool:
        row = self._rows[claim.url]
        if row.claim != claim.token:
            return False
        row.claim, row.ended_claim, row.lease_expires_at = None, claim.token, None
        row.finished, row.updated_at = finishes, self._now()
        row.revision += 1
        return True

    def _row(self, url: str, now: datetime) -> _Row:
        row = self._rows.setdefault(url, _Row(url, created_at=now, updated_at=now))
        row.created_at = now if row.is_deleted else row.created_at
        return row

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing()


def _stored_result(metadata: PageMetadata) -> StoredResult:
    return StoredResult(
        final_url=metadata.final_url,
        status_code=metadata.status_code,
        content_type=metadata.content_type,
        title=metadata.document.title if metadata.document else None,
        body_sha256=metadata.body_sha256,
        fetched_at=metadata.fetched_at,
    )


class FakeOutbox:
    """Events that are to be published, in memory; `failing` may be set to raise from all calls."""

    def __init__(self) -> None:
        self.events: list[PageEvent] = []
        self.failing: Exception | None = None
        self.knows_the_page = True

    def put_down_in(self, pages: FakePages) -> None:
        """Have deletions of these pages put their events down here, as the database does."""
        pages.outbox = self

    async def put_down(self, event: PageEvent) -> bool:
        self._check()
        if self.knows_the_page and event not in self.events:
            self.events.append(event)
        return self.knows_the_page

    async def unpublished(self) -> AsyncIterator[list[PageEvent]]:
        self._check()
        events = list(self.events)
        for first in range(0, len(events), 100):
            yield events[first : first + 100]

    async def strike_out(self, event: PageEvent) -> None:
        self._check()
        self.events.remove(event)

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing


class FakeEventPublisher:
    """Keeps what is published; takes nothing while `refusing` is set, and no `refused` kinds."""

    def __init__(self) -> None:
        self.published: list[PageEvent] = []
        self.refusing = False
        self.refused: set[EventKind] = set()
        self.tried_in_vain = 0

    async def publish(self, event: PageEvent, *, again: bool = False) -> bool:
        del again
        if self.refusing or event.kind in self.refused:
            self.tried_in_vain += 1
            return False
        self.published.append(event)
        return True


def _with_only(fields: frozenset[str], record: PageRecord) -> PageRecord:
    if record.metadata is None or fields == METADATA_FIELDS:
        return record
    selected = {name: getattr(record.metadata, name) for name in fields}
    return replace(record, metadata=None, selected=selected)
