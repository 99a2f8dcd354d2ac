"""The use cases: ask for a page, read it back, collect it. The order of writes is told here.

Publish, then record: the message is the truth and the record a view of it, so a POST does not fail
without a database. A read that finds nothing, or a result that is too old, records first and
publishes second: of several callers only the one whose write took effect publishes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Protocol
from uuid import UUID, uuid4

from loguru import logger

from app import events
from app.errors import (
    FetchError,
    HostBusy,
    NotStorable,
    PublishError,
    StoreError,
    StoreUnavailable,
    TooManyFetches,
    UnknownPage,
    UnknownRequest,
)
from app.events import Announcer
from app.models import (
    METADATA_FIELDS,
    Awaited,
    Busy,
    Claim,
    Coalesced,
    Completed,
    Deferred,
    Delivery,
    ErrorKind,
    FailedPermanently,
    NotModified,
    Outcome,
    PageError,
    PageEvent,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    RequestRecord,
    RetryLater,
    Validators,
)
from app.redaction import Redaction
from app.retries import (
    WRITE_AGAIN,
    GiveUp,
    Keep,
    RetryPolicy,
    TryAgain,
)
from app.runtime import metrics
from app.runtime.tracing import traced

KEEPS_ALL = Redaction()

TELL_AT_ONCE_SECONDS = 1.0
"""How long a deletion waits for the confirm of its event. Then a sweep is left to publish it."""


class Publisher(Protocol):
    """Takes requests; raises `PublishError` unless one is safely queued."""

    async def publish(self, request: PageRequest) -> None: ...


class Fetcher(Protocol):
    """Fetches a page; raises `FetchError` and `HostBusy`."""

    async def fetch(
        self, url: str, validators: Validators | None
    ) -> PageMetadata | NotModified: ...


class Pages(Protocol):
    """Keeps page records; raises `StoreUnavailable` and `NotStorable`."""

    async def find(self, url: str, fields: frozenset[str] = ...) -> PageRecord | None: ...
    async def find_with_source(
        self, url: str, fields: frozenset[str] = ...
    ) -> PageRecord | None: ...
    async def answered(self, waits: Collection[Awaited]) -> set[Awaited]: ...
    async def note_queued(self, request: PageRequest) -> None: ...
    async def reserve(self, request: PageRequest) -> bool: ...
    async def find_request(self, request_id: UUID) -> RequestRecord | None: ...
    async def reserve_again(self, request: PageRequest, record: PageRecord) -> bool: ...
    async def reserve_refresh(
        self, request: PageRequest, record: PageRecord, fields: frozenset[str] = ...
    ) -> PageRecord | None: ...
    async def release(self, request: PageRequest) -> None: ...
    async def restore(self, record: PageRecord, request: PageRequest) -> None: ...
    async def withdraw_refresh(self, request: PageRequest, record: PageRecord) -> None: ...
    async def is_suspect(self, delivery: Delivery) -> bool: ...
    async def claim(
        self, delivery: Delivery, *, lease_seconds: float, alone: bool = False
    ) -> Claim | Coalesced | Busy: ...
    async def complete(
        self, claim: Claim, metadata: PageMetadata, event: PageEvent | None = None
    ) -> PageStatus | None: ...
    async def confirm(self, claim: Claim, event: PageEvent | None = None) -> PageStatus | None: ...
    async def fail(
        self,
        claim: Claim,
        error: PageError,
        metadata: PageMetadata | None = None,
        event: PageEvent | None = None,
    ) -> PageStatus | None: ...
    async def find_events(self, request: PageRequest) -> tuple[PageEvent, ...]: ...
    async def delete(self, url: str, *, tells: bool) -> PageEvent | None: ...
    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None: ...
    async def abandon(self, claim: Claim) -> None: ...


class Inventory:
    """Asking for pages, reading them back and deleting them. URLs are canonical here.

    A result younger than `min_refresh_seconds` is not fetched again, whoever asks. Deletions are
    told by `announcer`, if there is one.
    """

    def __init__(
        self,
        *,
        publisher: Publisher,
        pages: Pages,
        announcer: Announcer | None = None,
        min_refresh_seconds: float = 0,
    ) -> None:
        self._publisher = publisher
        self._pages = pages
        self._announcer = announcer
        self._min_refresh_seconds = min_refresh_seconds

    async def find_fresh(
        self, url: str, max_age: int | None, fields: frozenset[str] = METADATA_FIELDS
    ) -> PageRecord | None:
        """Return the record of a page, without its source if that is large, or None.

        A page need not be fetched if its result was checked within `max_age` seconds, or if it was
        tried within the time in which nothing is fetched again. None means that it is to be
        fetched, which is also the answer where the database has none.
        """
        if not max_age and not self._min_refresh_seconds:
            return None
        with suppress(StoreError):
            record = await self._pages.find(url, fields)
            if record and (
                record.was_checked_within(max_age or 0)
                or record.was_tried_within(self._min_refresh_seconds)
            ):
                return record
        return None

    async def request(self, url: str, request_id: UUID | None = None) -> PageRequest:
        """Have a page fetched, again if it is known. Raises `PublishError`."""
        request = _new_request(url, request_id)
        await self._publisher.publish(request)
        try:
            await self._pages.note_queued(request)
        except (StoreUnavailable, NotStorable):
            # The message is what counts: the worker writes the record.
            logger.bind(request_id=request.request_id, url=url).warning("queued_without_record")
        return request

    async def read(
        self,
        url: str,
        request_id: UUID | None = None,
        *,
        max_age: int | None = None,
        may_queue: bool = True,
        fields: frozenset[str] = METADATA_FIELDS,
    ) -> PageRecord:
        """Return the record of a page, without its source if that is large.

        Of the metadata only the `fields` are read. A page that is unknown or has stalled is queued,
        once. So is a refresh that has stalled, and one of a page whose result was not checked
        within `max_age` seconds.

        Raises `StoreUnavailable`, `UnreadableRecord`, or `PublishError` if a page without result
        can't be queued. Without `may_queue` nothing is queued, and an unknown page raises
        `UnknownPage`.
        """
        record = await self._pages.find(url, fields)
        if not may_queue:
            return _marked(_known(record, url), max_age)
        if record is None:
            return await self._request_unknown(_new_request(url, request_id))
        if record.has_ended and self._is_due(record, max_age):
            record = await self._try_refresh(record, _new_request(url, request_id), fields)
        elif record.has_stalled:
            return await self._request_again(record, _new_request(url, request_id))
        return _marked(record, max_age)

    async def read_with_source(
        self, url: str, fields: frozenset[str] = METADATA_FIELDS
    ) -> PageRecord | None:
        """Return the record of a page with its source, which `read()` leaves out if it is large.

        Queues nothing. Raises `StoreUnavailable` and `UnreadableRecord`.
        """
        return await self._pages.find_with_source(url, fields)

    async def find_request(self, request_id: UUID) -> RequestRecord:
        """Return what became of a request. Raises `StoreUnavailable` and `UnknownRequest`."""
        request = await self._pages.find_request(request_id)
        if request is None:
            raise UnknownRequest(
                f"no record mentions the request {request_id}; ask for its page by "
                "GET /metadata?url=…"
            )
        return request

    async def delete(self, url: str) -> None:
        """Forget a page: its result, and every request for it that has been accepted so far.

        Raises `StoreUnavailable`. The event comes later if the broker does not take it soon.
        """
        event = await self._pages.delete(url, tells=self._announcer is not None)
        if event is not None and self._announcer is not None:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(TELL_AT_ONCE_SECONDS):
                    await self._announcer.announce_kept(event)

    def _is_due(self, record: PageRecord, max_age: int | None) -> bool:
        """Say whether a refresh is to be queued for a page that has a result."""
        if record.has_stalled:
            return True
        if max_age is None or record.is_being_refreshed:
            return False
        # A refresh that failed counts as a try, so that a page whose server is away is not asked
        # for anew by every reader.
        return not record.was_tried_within(max(max_age, self._min_refresh_seconds))

    async def _try_refresh(
        self, record: PageRecord, request: PageRequest, fields: frozenset[str]
    ) -> PageRecord:
        """Queue a refresh if nobody else has, and return the record as it is then.

        Whatever becomes of that, the reader gets the result that there is.
        """
        try:
            if record.status == PageStatus.COMPLETED:
                # A caller may name all its calls alike. A request with the name of one that had its
                # answer would be taken for that one, and not be fetched.
                request = replace(request, request_id=uuid4())
                return await self._request_refresh(record, request, fields)
            await self._request_again(record, request)
        except (PublishError, StoreUnavailable) as exc:
            logger.bind(url=record.url).warning("refresh_not_queued", reason=str(exc))
        return record

    async def _request_refresh(
        self, record: PageRecord, request: PageRequest, fields: frozenset[str]
    ) -> PageRecord:
        reserved = await self._pages.reserve_refresh(request, record, fields)
        if reserved is None:
            return record
        await self._publish_or(lambda: self._pages.withdraw_refresh(request, record), request)
        return reserved

    async def _request_unknown(self, request: PageRequest) -> PageRecord:
        if await self._pages.reserve(request):
            await self._publish_or(lambda: self._pages.release(request), request)
        return _queued_record(request)

    async def _request_again(self, record: PageRecord, request: PageRequest) -> PageRecord:
        if await self._pages.reserve_again(request, record):
            await self._publish_or(lambda: self._pages.restore(record, request), request)
        return _queued_record(request)

    async def _publish_or(
        self, take_back: Callable[[], Awaitable[None]], request: PageRequest
    ) -> None:
        try:
            await self._publisher.publish(request)
        except PublishError:
            await take_back()
            raise


class Collector:
    """Collecting one page: claim, fetch, store. Every attempt ends in a record.

    What `redaction` leaves out is neither stored nor told. With `tells` each outcome comes with the
    event that tells others of it.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own, and named by the caller
        self,
        *,
        fetcher: Fetcher,
        pages: Pages,
        retries: RetryPolicy,
        lease_seconds: float,
        redaction: Redaction = KEEPS_ALL,
        tells: bool = True,
    ) -> None:
        self._fetcher = fetcher
        self._pages = pages
        self._retries = retries
        self._lease_seconds = lease_seconds
        self._redaction = redaction
        self._tells = tells

    async def is_suspect(self, delivery: Delivery) -> bool:
        """Say whether a worker died while it fetched this page: it may be what killed it.

        Such a page is to be collected alone, so that it takes no other page with it. A first
        delivery cannot be one, and costs no look-up. Without a database nothing is known, and
        nothing will be fetched either.
        """
        if not delivery.redelivered and delivery.request.attempt == 1:
            return False
        with suppress(StoreUnavailable):
            return await self._pages.is_suspect(delivery)
        return False

    async def collect(self, delivery: Delivery, *, alone: bool = False) -> Outcome:
        """Make one attempt at a page.

        On return the outcome is durable in the database; a retry, or a deferred message,
        is still to be published. `alone`: no other page is being fetched by this worker.
        """
        try:
            return await self._told(await self._collect(delivery, alone=alone), delivery.request)
        except StoreUnavailable as exc:
            return _deferred(delivery, str(exc), self._retries.delay_without_database)
        except TooManyFetches as exc:
            return _deferred(delivery, str(exc), self._retries.delay_at_bound)
        except HostBusy as exc:
            return _deferred(delivery, str(exc), self._retries.delay_while_busy)

    async def _collect(self, delivery: Delivery, *, alone: bool) -> Outcome:
        claim = await self._pages.claim(delivery, lease_seconds=self._lease_seconds, alone=alone)
        match claim:
            case Coalesced():
                return claim
            case Busy():
                reason = "the page is being fetched for an earlier request"
                return _deferred(delivery, reason, self._retries.delay_while_busy)
            case Claim(attempt=attempt) if attempt > self._retries.max_attempts:
                return await self._give_up(claim, ATTEMPTS_EXHAUSTED)
        with logger.contextualize(attempt=claim.attempt):
            return await self._attempt(claim, delivery.request)

    async def _told(self, outcome: Outcome, request: PageRequest) -> Outcome:
        """Add the events of outcomes that the request had before: perhaps nobody has told them."""
        if self._tells and isinstance(outcome, Coalesced):
            return replace(outcome, events=await self._pages.find_events(request))
        return outcome

    async def _attempt(self, claim: Claim, request: PageRequest) -> Outcome:
        try:
            result = WORKER_DIED if claim.lost_alone else await self._fetch(claim)
            metrics.ATTEMPTS.observe(claim.attempt)
            return await self._record(claim, request, result)
        except (asyncio.CancelledError, HostBusy):
            # Stopped, cut off from the broker, or without a connection to the host: the attempt
            # was not made. Without this write the claim would hold the page until its lease ends.
            await asyncio.shield(self._abandon(claim))
            raise
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001 (whatever a page does, its attempt ends in a record)
            logger.opt(exception=exc).error("attempt_failed_unforeseen")
            return await self._record(claim, request, _unforeseen(exc))

    async def _record(
        self, claim: Claim, request: PageRequest, result: PageMetadata | NotModified | FetchError
    ) -> Outcome:
        if isinstance(result, NotModified):
            return await self._confirm(claim, request)
        # The page is judged as it was sent: `Retry-After` counts, whether it is kept or not.
        match self._retries.judge(result, claim.attempt):
            case Keep(metadata):
                return await self._keep(claim, self._redaction.applied_to(metadata))
            case TryAgain(error, delay_seconds):
                again = replace(request, attempt=claim.attempt + 1)
                return await self._try_again(claim, RetryLater(again, error, delay_seconds))
            case GiveUp() if claim.lost_alone:
                return await self._give_up(claim, ATTEMPTS_EXHAUSTED)
            case GiveUp(error, metadata):
                last_response = metadata and self._redaction.applied_to(metadata)
                return await self._give_up(claim, error, last_response)

    async def _abandon(self, claim: Claim) -> None:
        with suppress(StoreUnavailable):  # the claim then counts, and ends with its lease
            await self._pages.abandon(claim)

    @traced("fetcher.fetch")
    async def _fetch(self, claim: Claim) -> PageMetadata | NotModified | FetchError:
        """Fetch a page; its time, size and outcome are logged and counted here."""
        logger.info("fetch_started")
        # The metric cannot take `metadata.elapsed_ms`: a fetch that fails has no metadata.
        started = perf_counter()
        try:
            result = await self._fetcher.fetch(claim.url, claim.validators)
        except FetchError as exc:
            logger.info("fetch_finished", error_kind=exc.kind, reason=exc.message)
            metrics.observe_fetch(exc, perf_counter() - started)
            return exc
        logger.info(
            "fetch_finished",
            status_code=result.status_code,
            body_bytes=result.body_bytes,
            elapsed_ms=result.elapsed_ms,
        )
        metrics.observe_fetch(result, perf_counter() - started)
        return result

    async def _keep(self, claim: Claim, metadata: PageMetadata) -> Outcome:
        event = self._event(lambda: events.stored(claim, metadata))
        try:
            status = await _durably(lambda: self._pages.complete(claim, metadata, event))
        except NotStorable as exc:
            return await self._give_up(claim, PageError(ErrorKind.NOT_STORABLE, str(exc)))
        if status is None:
            return SUPERSEDED
        return Completed(status, claim.is_unchanged(metadata), event)

    async def _confirm(self, claim: Claim, request: PageRequest) -> Outcome:
        """Keep that the stored result still holds, or try again if it is no longer there."""
        event = self._event(lambda: events.confirmed(claim))
        status = await _durably(lambda: self._pages.confirm(claim, event))
        if status is None:
            return await self._record(claim, request, RESULT_GONE)
        return Completed(status, is_unchanged=True, event=event)

    async def _try_again(self, claim: Claim, retry: RetryLater) -> Outcome:
        status = await _durably(lambda: self._pages.note_retry(claim, retry.error))
        return retry if status else SUPERSEDED

    async def _give_up(
        self, claim: Claim, error: PageError, metadata: PageMetadata | None = None
    ) -> Outcome:
        event = self._event(lambda: events.failed(claim, error, metadata))
        try:
            status = await _durably(lambda: self._pages.fail(claim, error, metadata, event))
        except NotStorable:
            event = self._event(lambda: events.failed(claim, error, None))
            status = await _durably(lambda: self._pages.fail(claim, error, None, event))
        return FailedPermanently(error, status, event) if status else SUPERSEDED

    def _event(self, make: Callable[[], PageEvent]) -> PageEvent | None:
        """Return the event that tells of an outcome, None if nobody is to be told."""
        return make() if self._tells else None


def _deferred(delivery: Delivery, reason: str, delay_of: Callable[[int], float]) -> Deferred:
    deferrals = delivery.deferrals + 1
    return Deferred(delivery.request, reason, delay_of(deferrals), deferrals)


async def _durably(write: Callable[[], Awaitable[PageStatus | None]]) -> PageStatus | None:
    """Write the outcome of an attempt, again with backoff while the database is away.

    Raises `StoreUnavailable` after the last try.
    """
    unavailable = StoreUnavailable("no try was made")
    for _, delay in WRITE_AGAIN.schedule():
        await asyncio.sleep(delay)
        try:
            return await write()
        except StoreUnavailable as exc:
            unavailable = exc
    raise unavailable


SUPERSEDED = Coalesced("superseded")
"""The claim is void: another worker has taken it over and answers, or the page was deleted."""

ATTEMPTS_EXHAUSTED = PageError(ErrorKind.ATTEMPTS_EXHAUSTED, "every attempt ended without a result")

RESULT_GONE = FetchError(
    ErrorKind.INTERNAL, "the result that the server confirmed is no longer stored", retryable=True
)

WORKER_DIED = FetchError(
    ErrorKind.INTERNAL, "the worker process died while it fetched this page alone", retryable=True
)


def _unforeseen(exc: Exception) -> FetchError:
    message = f"something unforeseen happened in the service: {type(exc).__name__}"
    return FetchError(ErrorKind.INTERNAL, message, retryable=True)


def _known(record: PageRecord | None, url: str) -> PageRecord:
    if record is None:
        raise UnknownPage(f"there is no record of {url}; ask for it by POST /metadata")
    return record


def _marked(record: PageRecord, max_age: int | None) -> PageRecord:
    """Return the record with the note whether its result is older than was asked for."""
    if max_age is None or not record.has_ended:
        return record
    return replace(record, stale=not record.was_checked_within(max_age))


def _new_request(url: str, request_id: UUID | None) -> PageRequest:
    return PageRequest(url=url, request_id=request_id or uuid4(), requested_at=datetime.now(UTC))


def _queued_record(request: PageRequest) -> PageRecord:
    return PageRecord(
        url=request.url,
        status=PageStatus.QUEUED,
        metadata=None,
        error=None,
        attempts=0,
        request_id=request.request_id,
        created_at=request.requested_at,
        updated_at=request.requested_at,
    )
