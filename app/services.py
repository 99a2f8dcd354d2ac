"""The use cases: ask for a page, read it back, collect it. The order of writes is told here.

Publish, then record: the message is the truth and the record a view of it, so a POST needs no
database. A read that finds nothing records first and publishes second, so that of all who ask
at once only the one that inserted publishes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Protocol
from uuid import UUID, uuid4

from loguru import logger

from app.errors import (
    FetchError,
    HostBusy,
    NotStorable,
    PublishError,
    StoreUnavailable,
    UnknownPage,
)
from app.models import (
    Busy,
    Claim,
    Coalesced,
    Completed,
    Delivery,
    ErrorKind,
    FailedPermanently,
    Outcome,
    PageError,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    PutOff,
    RetryLater,
)
from app.retries import WRITE_AGAIN, GiveUp, Keep, RetryPolicy, TryAgain
from app.runtime import metrics
from app.runtime.tracing import TRACER

SHORT_DELAYS_WITHOUT_DATABASE = 1
"""How often a message comes back after the shortest retry delay while the database is away. Later
times it comes back after the second delay: work is to go on soon after the database is back."""

SHORT_DELAYS_WHILE_BUSY = 6
"""The same for a page whose host is busy, or which is being fetched for another request. That is
over in seconds as a rule. If it is not, hundreds of pages of one slow host would go round through
the shortest delay for as long as the host takes, and cost more than the pages of other hosts."""


class Publisher(Protocol):
    """Takes requests; raises `PublishError` unless one is safely queued."""

    async def publish(self, request: PageRequest) -> None: ...


class Fetcher(Protocol):
    """Fetches a page; raises `FetchError` and `HostBusy`."""

    async def fetch(self, url: str) -> PageMetadata: ...


class Pages(Protocol):
    """Keeps page records; raises `StoreUnavailable` and `NotStorable`."""

    async def find(self, url: str) -> PageRecord | None: ...
    async def find_with_source(self, url: str) -> PageRecord | None: ...
    async def note_queued(self, request: PageRequest) -> None: ...
    async def reserve(self, request: PageRequest) -> bool: ...
    async def reserve_again(self, request: PageRequest, stalled: PageRecord) -> bool: ...
    async def release(self, request: PageRequest) -> None: ...
    async def restore(self, stalled: PageRecord, request: PageRequest) -> None: ...
    async def is_suspect(self, delivery: Delivery) -> bool: ...
    async def claim(
        self, delivery: Delivery, *, lease_seconds: float, alone: bool = False
    ) -> Claim | Coalesced | Busy: ...
    async def complete(self, claim: Claim, metadata: PageMetadata) -> PageStatus | None: ...
    async def fail(
        self, claim: Claim, error: PageError, metadata: PageMetadata | None = None
    ) -> PageStatus | None: ...
    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None: ...
    async def abandon(self, claim: Claim) -> None: ...


class Inventory:
    """Asking for pages and reading them back. URLs are canonical here."""

    def __init__(self, *, publisher: Publisher, pages: Pages) -> None:
        self._publisher = publisher
        self._pages = pages

    async def request(self, url: str, request_id: UUID | None = None) -> PageRequest:
        """Have a page fetched, again if it is known. Raises `PublishError`."""
        request = _new_request(url, request_id)
        await self._publisher.publish(request)
        try:
            await self._pages.note_queued(request)
        except StoreUnavailable:
            logger.bind(request_id=request.request_id, url=url).warning("queued_without_record")
        return request

    async def read(
        self, url: str, request_id: UUID | None = None, *, may_queue: bool = True
    ) -> PageRecord:
        """Return the record of a page, without its source if that is large.

        A page that is unknown or has stalled is queued, once.

        Raises `StoreUnavailable`, `UnreadableRecord`, or `PublishError` if the page can't be
        queued. Without `may_queue` nothing is queued, and an unknown page raises `UnknownPage`.
        """
        record = await self._pages.find(url)
        if not may_queue:
            return _known(record, url)
        if record is None:
            return await self._request_unknown(_new_request(url, request_id))
        if record.has_stalled:
            return await self._request_again(record, _new_request(url, request_id))
        return record

    async def read_with_source(self, url: str) -> PageRecord | None:
        """Return the record of a page with its source, which `read()` leaves out if it is large.

        Queues nothing. Raises `StoreUnavailable` and `UnreadableRecord`.
        """
        return await self._pages.find_with_source(url)

    async def _request_unknown(self, request: PageRequest) -> PageRecord:
        if await self._pages.reserve(request):
            await self._publish_or(lambda: self._pages.release(request), request)
        return _queued_record(request)

    async def _request_again(self, stalled: PageRecord, request: PageRequest) -> PageRecord:
        if await self._pages.reserve_again(request, stalled):
            await self._publish_or(lambda: self._pages.restore(stalled, request), request)
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
    """Collecting one page: claim, fetch, store. Every attempt ends in a record."""

    def __init__(
        self, *, fetcher: Fetcher, pages: Pages, retries: RetryPolicy, lease_seconds: float
    ) -> None:
        self._fetcher = fetcher
        self._pages = pages
        self._retries = retries
        self._lease_seconds = lease_seconds

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

        On return the outcome is durable in the database; a retry, or a message that is put off,
        is still to be published. `alone`: no other page is being fetched by this worker.
        """
        try:
            return await self._collect(delivery, alone=alone)
        except StoreUnavailable as exc:
            return self._put_off(delivery, str(exc), SHORT_DELAYS_WITHOUT_DATABASE)
        except HostBusy as exc:
            return self._put_off(delivery, str(exc), SHORT_DELAYS_WHILE_BUSY)

    async def _collect(self, delivery: Delivery, *, alone: bool) -> Outcome:
        claim = await self._pages.claim(delivery, lease_seconds=self._lease_seconds, alone=alone)
        match claim:
            case Coalesced():
                return claim
            case Busy():
                reason = "the page is being fetched for an earlier request"
                return self._put_off(delivery, reason, SHORT_DELAYS_WHILE_BUSY)
            case Claim(attempt=attempt) if attempt > self._retries.max_attempts:
                return await self._give_up(claim, ATTEMPTS_EXHAUSTED)
        with logger.contextualize(attempt=claim.attempt):
            return await self._attempt(claim, delivery.request)

    def _put_off(self, delivery: Delivery, reason: str, short_delays: int) -> PutOff:
        deferrals = delivery.deferrals + 1
        delay_seconds = self._retries.delay_after(1 if deferrals <= short_delays else 2)
        return PutOff(delivery.request, reason, delay_seconds, deferrals)

    async def _attempt(self, claim: Claim, request: PageRequest) -> Outcome:
        try:
            result = WORKER_DIED if claim.lost_alone else await self._fetch(request.url)
            metrics.ATTEMPTS.observe(claim.attempt)
            return await self._record(claim, request, result)
        except (asyncio.CancelledError, HostBusy):
            # Stopped, cut off from the broker, or without a place at the host: the attempt was
            # not made. The page is given back, or the claim would hold it until its lease ends.
            await asyncio.shield(self._abandon(claim))
            raise
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001 (whatever a page does, its attempt ends in a record)
            logger.opt(exception=exc).error("attempt_failed_unforeseen")
            return await self._record(claim, request, _unforeseen(exc))

    async def _record(
        self, claim: Claim, request: PageRequest, result: PageMetadata | FetchError
    ) -> Outcome:
        match self._retries.judge(result, claim.attempt):
            case Keep(metadata):
                return await self._keep(claim, metadata)
            case TryAgain(error, delay_seconds):
                again = replace(request, attempt=claim.attempt + 1)
                return await self._try_again(claim, RetryLater(again, error, delay_seconds))
            case GiveUp() if claim.lost_alone:
                return await self._give_up(claim, ATTEMPTS_EXHAUSTED)
            case GiveUp(error, metadata):
                return await self._give_up(claim, error, metadata)

    async def _abandon(self, claim: Claim) -> None:
        with suppress(StoreUnavailable):  # the claim then counts, and ends with its lease
            await self._pages.abandon(claim)

    @TRACER.start_as_current_span("fetcher.fetch")
    async def _fetch(self, url: str) -> PageMetadata | FetchError:
        """Fetch a page; its time, size and outcome are logged and counted here."""
        logger.info("fetch_started")
        started = perf_counter()
        try:
            metadata = await self._fetcher.fetch(url)
        except FetchError as exc:
            logger.info("fetch_finished", error_kind=exc.kind, reason=exc.message)
            metrics.observe_fetch(exc, perf_counter() - started)
            return exc
        logger.info(
            "fetch_finished",
            status_code=metadata.status_code,
            body_bytes=metadata.body_bytes,
            elapsed_ms=metadata.elapsed_ms,
        )
        metrics.observe_fetch(metadata, perf_counter() - started)
        return metadata

    async def _keep(self, claim: Claim, metadata: PageMetadata) -> Outcome:
        try:
            status = await _durably(lambda: self._pages.complete(claim, metadata))
        except NotStorable as exc:
            return await self._give_up(claim, PageError(ErrorKind.NOT_STORABLE, str(exc)))
        return Completed(status) if status else SUPERSEDED

    async def _try_again(self, claim: Claim, retry: RetryLater) -> Outcome:
        status = await _durably(lambda: self._pages.note_retry(claim, retry.error))
        return retry if status else SUPERSEDED

    async def _give_up(
        self, claim: Claim, error: PageError, metadata: PageMetadata | None = None
    ) -> Outcome:
        try:
            status = await _durably(lambda: self._pages.fail(claim, error, metadata))
        except NotStorable:
            status = await _durably(lambda: self._pages.fail(claim, error))
        return FailedPermanently(error, status) if status else SUPERSEDED


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
"""The claim went to another worker while this one was at work; that one answers."""

ATTEMPTS_EXHAUSTED = PageError(ErrorKind.ATTEMPTS_EXHAUSTED, "every attempt ended without a result")

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
