"""The use cases: what is written in which order, and what every end of an attempt leaves behind."""

import asyncio
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest
from dirty_equals import IsNow, IsPartialDict

from app.errors import (
    FetchError,
    HostBusy,
    InventoryError,
    NotStorable,
    PublisherNotReady,
    PublishFailed,
    PublishFault,
    StoreUnavailable,
    TooManyFetches,
    UnknownPage,
)
from app.models import (
    METADATA_FIELDS,
    Claim,
    Coalesced,
    Completed,
    Deferred,
    Delivery,
    ErrorKind,
    FailedPermanently,
    Header,
    NotModified,
    PageError,
    PageEvent,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    RetryLater,
    Validators,
)
from app.redaction import Redaction
from app.retries import RetryPolicy
from app.services import Collector, Fetcher, Inventory
from tests.fakes import URL, FakeFetcher, FakePages, FakePublisher, a_page, a_request, a_timeout
from tests.unit.recorded import Log

BLOCKED = FetchError(ErrorKind.BLOCKED_ADDRESS, "not a public address", retryable=False)
TIMED_OUT = PageError(ErrorKind.TIMEOUT, "no answer in time")


PATIENCE = timedelta(minutes=10)


def unreachable() -> Exception:
    return StoreUnavailable("ServerSelectionTimeoutError")


class JournalPublisher(FakePublisher):
    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self._journal = journal

    async def publish(self, request: PageRequest) -> None:
        self._journal.append("publish")
        await super().publish(request)


class JournalPages(FakePages):
    """Notes what is called; every call lets others run first, as a real database would."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__(patience=PATIENCE)
        self._journal = journal

    async def find(self, url: str, fields: frozenset[str] = METADATA_FIELDS) -> PageRecord | None:
        await self._called("find")
        return await super().find(url, fields)

    async def note_queued(self, request: PageRequest) -> None:
        await self._called("note_queued")
        await super().note_queued(request)

    async def reserve(self, request: PageRequest) -> bool:
        await self._called("reserve")
        return await super().reserve(request)

    async def reserve_again(self, request: PageRequest, record: PageRecord) -> bool:
        await self._called("reserve_again")
        return await super().reserve_again(request, record)

    async def reserve_refresh(
        self, request: PageRequest, record: PageRecord, fields: frozenset[str] = METADATA_FIELDS
    ) -> PageRecord | None:
        await self._called("reserve_refresh")
        return await super().reserve_refresh(request, record, fields)

    async def withdraw_refresh(self, request: PageRequest, record: PageRecord) -> None:
        await self._called("withdraw_refresh")
        await super().withdraw_refresh(request, record)

    async def release(self, request: PageRequest) -> None:
        await self._called("release")
        await super().release(request)

    async def _called(self, name: str) -> None:
        self._journal.append(name)
        await asyncio.sleep(0)


@pytest.fixture
def journal() -> list[str]:
    return []


@pytest.fixture
def publisher(journal: list[str]) -> FakePublisher:
    return JournalPublisher(journal)


@pytest.fixture
def pages(journal: list[str]) -> FakePages:
    return JournalPages(journal)


@pytest.fixture
def inventory(publisher: FakePublisher, pages: FakePages) -> Inventory:
    return Inventory(publisher=publisher, pages=pages)


async def record_of(pages: FakePages) -> PageRecord:
    record = await pages.find(URL)
    assert record is not None
    return record


# --- Asking for a page and reading it back ---


async def test_a_request_is_published_first_and_recorded_second(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    request = await inventory.request(URL)
    assert journal == ["publish", "note_queued"]
    assert publisher.published == [request]
    record = await record_of(pages)
    assert (record.status, record.request_id) == (PageStatus.QUEUED, request.request_id)


async def test_a_request_says_when_it_was_made_and_is_the_first_attempt(
    inventory: Inventory,
) -> None:
    request = await inventory.request(URL)
    assert (request.url, request.attempt) == (URL, 1)
    assert request.requested_at == IsNow(tz=UTC)


async def test_every_request_is_published_under_a_name_of_its_own(
    inventory: Inventory, publisher: FakePublisher
) -> None:
    for _ in range(3):
        await inventory.request(URL)
    assert len({request.request_id for request in publisher.published}) == 3


async def test_a_request_the_broker_refuses_is_not_recorded(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    publisher.refusing = True
    with pytest.raises(PublisherNotReady):
        await inventory.request(URL)
    assert await pages.find(URL) is None


async def test_a_request_needs_no_database(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, log: Log
) -> None:
    pages.failing = unreachable
    request = await inventory.request(URL)
    assert publisher.published == [request]
    assert log.one("queued_without_record") == IsPartialDict(
        level="WARNING", request_id=request.request_id, url=URL
    )


async def test_a_record_there_is_is_read_and_nothing_is_queued(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    await pages.reserve(a_request())
    journal.clear()
    assert await inventory.read(URL) == await pages.find(URL)
    assert publisher.published == []
    assert set(journal) == {"find"}


async def test_a_page_nobody_knows_is_recorded_first_and_published_second(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    answer = await inventory.read(URL)
    assert journal == ["find", "reserve", "publish"]
    assert (answer.status, answer.attempts) == (PageStatus.QUEUED, 0)
    assert answer.request_id == (await record_of(pages)).request_id
    assert [request.request_id for request in publisher.published] == [answer.request_id]


async def test_of_forty_who_ask_at_once_one_has_it_queued(
    inventory: Inventory, publisher: FakePublisher, journal: list[str]
) -> None:
    answers = await asyncio.gather(*(inventory.read(URL) for _ in range(40)))
    assert journal[:40] == ["find"] * 40  # that is, all of them found nothing
    assert len(publisher.published) == 1
    assert {answer.status for answer in answers} == {PageStatus.QUEUED}


async def test_those_who_ask_for_different_pages_do_not_share(
    inventory: Inventory, publisher: FakePublisher
) -> None:
    urls = [f"https://example.com/{number}" for number in range(10)]
    await asyncio.gather(*(inventory.read(url) for url in urls))
    assert sorted(request.url for request in publisher.published) == urls


async def test_a_reservation_that_can_not_be_published_is_taken_back(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    publisher.refusing = True
    with pytest.raises(PublisherNotReady):
        await inventory.read(URL)
    assert journal == ["find", "reserve", "publish", "release"]
    assert await pages.find(URL) is None
    publisher.refusing = False
    assert (await inventory.read(URL)).status is PageStatus.QUEUED
    assert len(publisher.published) == 1


async def test_a_read_that_may_not_queue_leaves_an_unknown_page_unknown(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    with pytest.raises(UnknownPage):
        await inventory.read(URL, may_queue=False)
    assert publisher.published == []
    assert await pages.find(URL) is None


async def test_a_read_that_may_not_queue_returns_a_stalled_page_as_it_is(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    await pages.reserve(a_request())
    pages.pass_time(URL, PATIENCE.total_seconds() + 1)
    record = await inventory.read(URL, may_queue=False)
    assert record.has_stalled
    assert publisher.published == []


async def test_without_a_database_nothing_is_read_and_nothing_is_queued(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    pages.failing = unreachable
    with pytest.raises(StoreUnavailable):
        await inventory.read(URL)
    assert publisher.published == []


async def test_a_reservation_that_can_not_even_be_taken_back_is_no_success(
    inventory: Inventory, pages: FakePages, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose_both(_self: object, _request: PageRequest) -> None:
        pages.failing = unreachable
        raise PublishFailed(PublishFault.CONNECTION_LOST)

    monkeypatch.setattr(JournalPublisher, "publish", lose_both)
    with pytest.raises(InventoryError):
        await inventory.read(URL)


# --- Pages that have stood still for too long ---


async def stall(pages: FakePages, status: PageStatus, *, ago: timedelta) -> PageRequest:
    """Leave a record as a worker does that has then vanished."""
    request = a_request()
    await pages.note_queued(request)
    if status is not PageStatus.QUEUED:
        claim = await pages.claim(Delivery(request), lease_seconds=120)
        assert isinstance(claim, Claim)
        if status is PageStatus.FAILED_RETRYABLE:
            await pages.note_retry(claim, TIMED_OUT)
    pages.pass_time(URL, ago.total_seconds())
    return request


STALLED = [
    pytest.param((PageStatus.QUEUED, PATIENCE), id="queued for longer than retries take"),
    pytest.param((PageStatus.FAILED_RETRYABLE, PATIENCE), id="its retry was lost"),
    pytest.param((PageStatus.IN_PROGRESS, timedelta(seconds=121)), id="its claim ran out"),
]
NOT_STALLED = [
    pytest.param(PageStatus.QUEUED, timedelta(minutes=9), id="queued for a while"),
    pytest.param(PageStatus.FAILED_RETRYABLE, timedelta(minutes=9), id="waits for its retry"),
    pytest.param(PageStatus.IN_PROGRESS, timedelta(seconds=110), id="claimed for a while"),
]


@pytest.fixture
async def stalled(request: pytest.FixtureRequest, pages: FakePages, journal: list[str]) -> UUID:
    """The request that was lost."""
    status, ago = request.param
    lost = await stall(pages, status, ago=ago)
    journal.clear()
    return lost.request_id


@pytest.mark.parametrize("stalled", STALLED, indirect=True)
async def test_a_page_that_stands_still_is_queued_again(
    inventory: Inventory,
    publisher: FakePublisher,
    pages: FakePages,
    journal: list[str],
    stalled: UUID,
) -> None:
    answer = await inventory.read(URL)
    assert journal == ["find", "reserve_again", "publish"]
    assert answer.status is PageStatus.QUEUED
    assert [it.request_id for it in publisher.published] == [answer.request_id]
    assert answer.request_id != stalled
    record = await record_of(pages)
    assert (record.status, record.attempts) == (PageStatus.QUEUED, 0)


@pytest.mark.usefixtures("stalled")
@pytest.mark.parametrize("stalled", STALLED, indirect=True)
async def test_of_forty_who_find_it_standing_still_one_has_it_queued(
    inventory: Inventory, publisher: FakePublisher, journal: list[str]
) -> None:
    await asyncio.gather(*(inventory.read(URL) for _ in range(40)))
    assert journal[:40] == ["find"] * 40
    assert len(publisher.published) == 1


@pytest.mark.parametrize(("status", "ago"), NOT_STALLED)
async def test_a_page_somebody_may_be_at_is_left_alone(
    inventory: Inventory,
    publisher: FakePublisher,
    pages: FakePages,
    status: PageStatus,
    ago: timedelta,
) -> None:
    await stall(pages, status, ago=ago)
    assert (await inventory.read(URL)).status is status
    assert publisher.published == []


async def test_a_page_that_has_ended_never_stands_still(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    await collect(pages, a_page())
    assert (await inventory.read(URL)).status is PageStatus.COMPLETED
    assert publisher.published == []


async def test_a_page_that_can_not_be_queued_again_is_an_error_now_and_queued_later(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    await stall(pages, PageStatus.QUEUED, ago=PATIENCE)
    publisher.refusing = True
    with pytest.raises(PublisherNotReady):
        await inventory.read(URL)
    publisher.refusing = False
    assert (await inventory.read(URL)).status is PageStatus.QUEUED
    assert len(publisher.published) == 1


# --- Results that are too old ---


async def store(pages: FakePages, journal: list[str], *, seconds_ago: float) -> None:
    await collect(pages, a_page())
    pages.pass_time(URL, seconds_ago)
    journal.clear()


async def test_a_result_that_is_too_old_is_answered_once_a_refresh_is_queued(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    await store(pages, journal, seconds_ago=100)
    record = await inventory.read(URL, max_age=80)
    assert journal == ["find", "reserve_refresh", "publish"]
    assert (record.status, record.metadata, record.stale) == (PageStatus.COMPLETED, a_page(), True)
    assert record.refresh is not None
    assert [it.request_id for it in publisher.published] == [record.refresh.request_id]


async def test_a_caller_that_names_all_its_calls_alike_gets_its_refresh(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    request = await inventory.request(URL)
    await collect(pages, a_page(), request=request)
    await inventory.read(URL, request.request_id, max_age=0)
    outcome, _ = await collect(pages, a_page(), request=publisher.published[-1])
    assert isinstance(outcome, Completed)
    assert (await record_of(pages)).refresh is None


async def test_of_forty_who_find_it_too_old_one_has_it_refreshed(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    await store(pages, journal, seconds_ago=100)
    records = await asyncio.gather(*(inventory.read(URL, max_age=80) for _ in range(40)))
    assert journal[:40] == ["find"] * 40
    assert len(publisher.published) == 1
    assert {(it.status, it.stale) for it in records} == {(PageStatus.COMPLETED, True)}


async def test_a_refresh_that_can_not_be_queued_is_withdrawn_and_the_result_answered(
    inventory: Inventory,
    publisher: FakePublisher,
    pages: FakePages,
    journal: list[str],
    log: Log,
) -> None:
    await store(pages, journal, seconds_ago=100)
    publisher.refusing = True
    record = await inventory.read(URL, max_age=80)
    assert journal == ["find", "reserve_refresh", "publish", "withdraw_refresh"]
    assert (record.stale, record.refresh) == (True, None)
    assert log.one("refresh_not_queued") == IsPartialDict(reason="publisher_not_ready")
    publisher.refusing = False
    await inventory.read(URL, max_age=80)
    assert len(publisher.published) == 1


async def test_a_result_that_is_younger_is_not_refreshed(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    await store(pages, journal, seconds_ago=100)
    assert not (await inventory.read(URL, max_age=120)).stale
    assert not (await inventory.read(URL)).stale
    assert publisher.published == []


async def test_a_result_is_always_too_old_for_a_max_age_of_0(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    await store(pages, journal, seconds_ago=0)
    assert (await inventory.read(URL, max_age=0)).stale
    assert len(publisher.published) == 1


async def test_a_refresh_that_failed_is_made_again_after_max_age_and_not_before(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    await store(pages, journal, seconds_ago=100)
    await collect(pages, BLOCKED)
    record = await inventory.read(URL, max_age=80)
    assert record.stale
    assert publisher.published == []
    pages.pass_time(URL, 81)
    await inventory.read(URL, max_age=80)
    assert len(publisher.published) == 1


async def test_a_failure_that_is_too_old_is_answered_and_the_page_queued(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    await collect(pages, BLOCKED)
    pages.pass_time(URL, 100)
    records = await asyncio.gather(*(inventory.read(URL, max_age=80) for _ in range(40)))
    assert {(it.status, it.stale) for it in records} == {(PageStatus.FAILED_PERMANENT, True)}
    assert len(publisher.published) == 1
    assert (await record_of(pages)).status is PageStatus.QUEUED


async def test_a_failure_that_can_not_be_queued_is_what_it_was(
    inventory: Inventory, publisher: FakePublisher, pages: FakePages
) -> None:
    await collect(pages, BLOCKED)
    pages.pass_time(URL, 100)
    before = await record_of(pages)
    publisher.refusing = True
    assert (await inventory.read(URL, max_age=80)).stale
    assert await record_of(pages) == before


@pytest.mark.parametrize("state", STALLED)
@pytest.mark.parametrize("max_age", [None, 1_000_000])
async def test_a_refresh_that_stands_still_is_queued_again_by_one_of_forty(
    inventory: Inventory,
    publisher: FakePublisher,
    pages: FakePages,
    state: tuple[PageStatus, timedelta],
    max_age: int | None,
) -> None:
    await collect(pages, a_page())
    await stall(pages, state[0], ago=state[1])
    records = await asyncio.gather(*(inventory.read(URL, max_age=max_age) for _ in range(40)))
    assert {it.status for it in records} == {PageStatus.COMPLETED}
    assert len(publisher.published) == 1
    assert not (await record_of(pages)).has_stalled


# --- Results that are young enough ---


async def found_fresh(
    publisher: FakePublisher, pages: FakePages, journal: list[str], asked: tuple[int | None, float]
) -> PageRecord | None:
    """Ask for a result of 100 s ago, by `max_age` and the least time between two fetches."""
    max_age, least_time = asked
    inventory = Inventory(publisher=publisher, pages=pages, min_refresh_seconds=least_time)
    await store(pages, journal, seconds_ago=100)
    return await inventory.find_fresh(URL, max_age)


@pytest.mark.parametrize("asked", [(None, 120), (80, 120), (120, 80), (120, 0)])
async def test_a_result_is_fresh_by_max_age_or_by_the_least_time_between_fetches(
    publisher: FakePublisher, pages: FakePages, journal: list[str], asked: tuple[int | None, float]
) -> None:
    record = await found_fresh(publisher, pages, journal, asked)
    assert record is not None
    assert not record.stale


@pytest.mark.parametrize("asked", [(None, 0), (0, 0), (80, 0), (None, 80), (80, 80)])
async def test_a_result_that_is_older_than_both_is_not_fresh(
    publisher: FakePublisher, pages: FakePages, journal: list[str], asked: tuple[int | None, float]
) -> None:
    assert await found_fresh(publisher, pages, journal, asked) is None


async def test_a_request_without_max_age_reads_nothing(
    inventory: Inventory, journal: list[str]
) -> None:
    assert await inventory.find_fresh(URL, None) is None
    assert journal == []


async def test_without_a_database_no_result_is_fresh(
    inventory: Inventory, pages: FakePages
) -> None:
    pages.failing = unreachable
    assert await inventory.find_fresh(URL, 100) is None


async def test_no_reader_causes_more_fetches_than_the_least_time_allows(
    publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    inventory = Inventory(publisher=publisher, pages=pages, min_refresh_seconds=120)
    await store(pages, journal, seconds_ago=100)
    assert (await inventory.read(URL, max_age=0)).stale
    assert publisher.published == []


async def test_a_refresh_that_has_just_failed_is_not_made_again_within_the_least_time(
    publisher: FakePublisher, pages: FakePages, journal: list[str]
) -> None:
    inventory = Inventory(publisher=publisher, pages=pages, min_refresh_seconds=60)
    await store(pages, journal, seconds_ago=100)
    assert await inventory.find_fresh(URL, None) is None
    await collect(pages, BLOCKED)
    assert await inventory.find_fresh(URL, None) is not None


# --- Collecting it ---


class UntakingPages(FakePages):
    """Raises instead of ending an attempt, the first `times`; counts what was tried."""

    def __init__(self, error: Callable[[], Exception], *, times: int) -> None:
        super().__init__()
        self._error = error
        self._times = times
        self.tries = 0

    async def complete(
        self, claim: Claim, metadata: PageMetadata, event: PageEvent | None = None
    ) -> PageStatus | None:
        self._try()
        return await super().complete(claim, metadata, event)

    async def fail(
        self,
        claim: Claim,
        error: PageError,
        metadata: PageMetadata | None = None,
        event: PageEvent | None = None,
    ) -> PageStatus | None:
        self._try()
        return await super().fail(claim, error, metadata, event)

    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None:
        self._try()
        return await super().note_retry(claim, error)

    def _try(self) -> None:
        self.tries += 1
        if self.tries <= self._times:
            raise self._error()


class PickyPages(FakePages):
    """Takes no page, only errors."""

    async def complete(
        self, claim: Claim, metadata: PageMetadata, event: PageEvent | None = None
    ) -> PageStatus | None:
        del claim, metadata, event
        raise NotStorable("DocumentTooLarge: 17000000 bytes")

    async def fail(
        self,
        claim: Claim,
        error: PageError,
        metadata: PageMetadata | None = None,
        event: PageEvent | None = None,
    ) -> PageStatus | None:
        if metadata is not None:
            raise NotStorable("DocumentTooLarge: 17000000 bytes")
        return await super().fail(claim, error, None, event)


def a_collector(fetcher: Fetcher, pages: FakePages, *, max_attempts: int = 3) -> Collector:
    return Collector(
        fetcher=fetcher,
        pages=pages,
        retries=RetryPolicy(max_attempts, (5, 30, 120)),
        lease_seconds=120,
        tells=False,
    )


async def collect(
    pages: FakePages,
    *results: PageMetadata | NotModified | FetchError | HostBusy,
    **delivery: Any,
) -> tuple[object, list[str]]:
    fetcher = FakeFetcher(*results)
    request = delivery.pop("request", None) or a_request()
    outcome = await a_collector(fetcher, pages).collect(Delivery(request, **delivery))
    return outcome, fetcher.fetched


async def test_a_page_is_claimed_fetched_and_stored(log: Log) -> None:
    pages = FakePages()
    outcome, fetched = await collect(pages, a_page())
    assert outcome == Completed(PageStatus.COMPLETED)
    assert fetched == [URL]
    record = await record_of(pages)
    assert (record.status, record.metadata) == (PageStatus.COMPLETED, a_page())
    assert log.events == ["fetch_started", "fetch_finished"]
    assert log.one("fetch_finished") == IsPartialDict(
        status_code=200, body_bytes=15, elapsed_ms=41.7
    )


async def test_a_page_is_in_progress_while_it_is_fetched() -> None:
    pages = FakePages()
    seen: list[PageRecord] = []

    class WatchingFetcher:
        async def fetch(self, _url: str, _validators: object = None) -> PageMetadata:
            seen.append(await record_of(pages))
            return a_page()

    await a_collector(WatchingFetcher(), pages).collect(Delivery(a_request()))
    assert [(record.status, record.attempts) for record in seen] == [(PageStatus.IN_PROGRESS, 1)]


@pytest.mark.parametrize("status", [204, 301, 404, 410, 501])
async def test_a_page_of_any_other_status_is_a_result(status: int) -> None:
    outcome, _ = await collect(FakePages(), a_page(status))
    assert outcome == Completed(PageStatus.COMPLETED)


async def test_a_fault_that_may_pass_is_recorded_and_asked_for_again(log: Log) -> None:
    pages, request = FakePages(), a_request()
    outcome, _ = await collect(pages, a_timeout(), request=request)
    again = PageRequest(URL, request.request_id, request.requested_at, attempt=2)
    assert outcome == RetryLater(again, TIMED_OUT, 5)
    record = await record_of(pages)
    assert (record.status, record.error) == (PageStatus.FAILED_RETRYABLE, TIMED_OUT)
    assert log.one("fetch_finished") == IsPartialDict(
        error_kind="timeout", reason="no answer in time"
    )


async def test_a_request_that_is_tried_until_it_works_counts_its_attempts() -> None:
    pages = FakePages()
    fetcher = FakeFetcher(a_timeout(), a_page(503), a_page())
    collector = a_collector(fetcher, pages)
    delays, request = [], a_request()
    while isinstance(outcome := await collector.collect(Delivery(request)), RetryLater):
        delays.append(outcome.delay_seconds)
        request = outcome.request
    assert (outcome, delays) == (Completed(PageStatus.COMPLETED), [5, 30])
    record = await record_of(pages)
    assert (record.attempts, record.error) == (3, None)


async def test_the_last_attempt_ends_the_request() -> None:
    pages = FakePages()
    outcome, _ = await collect(pages, a_timeout(), request=a_request(attempt=3))
    assert outcome == FailedPermanently(TIMED_OUT, PageStatus.FAILED_PERMANENT)
    record = await record_of(pages)
    assert (record.error, record.attempts) == (TIMED_OUT, 3)


async def test_the_last_response_of_a_server_that_never_was_ready_is_kept() -> None:
    pages = FakePages()
    outcome, _ = await collect(pages, a_page(503), request=a_request(attempt=3))
    error = PageError(ErrorKind.HTTP_STATUS, "the server answered 503 Service Unavailable")
    assert outcome == FailedPermanently(error, PageStatus.FAILED_PERMANENT)
    assert (await record_of(pages)).metadata == a_page(503)


SECRET = Header("x-secret", "s3cret")
PRIVATE = Redaction(names=frozenset({"x-secret", "retry-after", "etag"}), keeps_source=False)


async def redacted(result: PageMetadata, *, max_attempts: int = 1) -> tuple[object, PageRecord]:
    """Collect a page where values and the source are not kept."""
    pages, fetcher = FakePages(), FakeFetcher(result)
    collector = Collector(
        fetcher=fetcher,
        pages=pages,
        retries=RetryPolicy(max_attempts, (5, 30, 120)),
        lease_seconds=120,
        redaction=PRIVATE,
    )
    outcome = await collector.collect(Delivery(a_request()))
    return outcome, await record_of(pages)


@pytest.mark.parametrize("status", [200, 503])
async def test_what_is_not_to_be_kept_is_neither_in_a_result_nor_in_a_last_response(
    status: int,
) -> None:
    outcome, record = await redacted(a_page(status, headers=(SECRET,), page_source="s3cret"))
    assert record.metadata == a_page(status, headers=(Header("x-secret", ""),), page_source=None)
    assert "s3cret" not in repr(outcome)


async def test_a_redacted_validator_is_not_kept_for_a_refresh() -> None:
    pages, page = FakePages(), a_page(headers=(Header("etag", '"v1"'),))
    for redaction, etag in ((Redaction(), '"v1"'), (PRIVATE, None)):
        fetcher = FakeFetcher(page, page)
        collector = Collector(
            fetcher=fetcher,
            pages=pages,
            retries=RetryPolicy(1, (5,)),
            lease_seconds=120,
            redaction=redaction,
        )
        for _ in range(2):
            await collector.collect(Delivery(a_request()))
        sent = fetcher.validators[1]
        assert (sent and sent.etag) == etag


async def test_a_page_whose_source_is_not_kept_is_still_known_to_be_unchanged() -> None:
    pages = FakePages()
    outcomes = []
    for _ in range(2):
        collector = Collector(
            fetcher=FakeFetcher(a_page()),
            pages=pages,
            retries=RetryPolicy(1, (5,)),
            lease_seconds=120,
            redaction=PRIVATE,
        )
        outcomes.append(await collector.collect(Delivery(a_request())))
    changes = [it.is_unchanged for it in outcomes if isinstance(it, Completed)]
    assert changes == [False, True]


async def test_a_server_that_asks_to_wait_is_heeded_even_if_that_is_not_kept() -> None:
    asks = a_page(503, headers=(Header("retry-after", "100"),))
    outcome, _ = await redacted(asks, max_attempts=3)
    assert isinstance(outcome, RetryLater)
    assert outcome.delay_seconds == 120


async def test_a_fault_that_stays_ends_the_request_at_once() -> None:
    pages = FakePages()
    outcome, _ = await collect(pages, BLOCKED)
    error = PageError(ErrorKind.BLOCKED_ADDRESS, "not a public address")
    assert outcome == FailedPermanently(error, PageStatus.FAILED_PERMANENT)
    assert (await record_of(pages)).error == error


async def test_a_page_that_is_being_fetched_for_another_request_is_deferred(log: Log) -> None:
    pages = FakePages()
    await pages.claim(Delivery(a_request()), lease_seconds=120)
    request = a_request()
    outcome, fetched = await collect(pages, request=request, deferrals=5)
    reason = "the page is being fetched for an earlier request"
    assert outcome == Deferred(request, reason, delay_seconds=5, deferrals=6)
    assert fetched == []
    assert log.events == []


async def test_a_request_that_a_later_fetch_has_answered_is_not_fetched() -> None:
    pages, request = FakePages(), a_request()
    await pages.note_queued(request)
    await collect(pages, a_page())
    assert await collect(pages, request=request) == (Coalesced("answered"), [])


async def test_a_page_that_killed_its_last_worker_alone_ends_without_being_fetched_again() -> None:
    pages, request = FakePages(), a_request(attempt=3)
    await pages.claim(Delivery(request), lease_seconds=120, alone=True)
    outcome, fetched = await collect(pages, request=request, redelivered=True)
    error = PageError(ErrorKind.ATTEMPTS_EXHAUSTED, "every attempt ended without a result")
    assert outcome == FailedPermanently(error, PageStatus.FAILED_PERMANENT)
    assert fetched == []
    assert (await record_of(pages)).error == error


async def test_a_worker_that_dies_with_several_pages_costs_none_of_them_an_attempt() -> None:
    pages, request = FakePages(), a_request()
    await pages.claim(Delivery(request), lease_seconds=120)
    outcome, fetched = await collect(pages, a_page(), request=request, redelivered=True)
    assert (outcome, fetched) == (Completed(PageStatus.COMPLETED), [URL])
    assert (await record_of(pages)).attempts == 1


async def test_a_worker_that_dies_with_one_page_alone_costs_it_an_attempt() -> None:
    pages, request = FakePages(), a_request()
    await pages.claim(Delivery(request), lease_seconds=120, alone=True)
    outcome, fetched = await collect(pages, request=request, redelivered=True)
    assert isinstance(outcome, RetryLater)
    assert (outcome.request.attempt, outcome.delay_seconds) == (2, 5)
    assert outcome.error.kind is ErrorKind.INTERNAL
    assert fetched == []


@pytest.mark.parametrize(
    ("redelivered", "attempt", "claimed", "is_suspect"),
    [
        pytest.param(False, 1, True, False, id="a first delivery"),
        pytest.param(True, 1, False, False, id="redelivered before it was claimed"),
        pytest.param(True, 1, True, True, id="redelivered with its claim left behind"),
    ],
)
async def test_a_page_is_suspect_if_its_worker_died_fetching_it(
    *, redelivered: bool, attempt: int, claimed: bool, is_suspect: bool
) -> None:
    pages, request = FakePages(), a_request(attempt=attempt)
    if claimed:
        await pages.claim(Delivery(request), lease_seconds=120)
    delivery = Delivery(request, redelivered=redelivered)
    assert await a_collector(FakeFetcher(), pages).is_suspect(delivery) is is_suspect


async def test_without_a_database_no_page_is_suspect() -> None:
    pages = FakePages()
    pages.failing = unreachable
    delivery = Delivery(a_request(), redelivered=True)
    assert not await a_collector(FakeFetcher(), pages).is_suspect(delivery)


async def test_a_refresh_keeps_the_old_result_readable_until_it_has_a_new_one() -> None:
    pages = FakePages()
    await collect(pages, a_page(404))
    later = a_request()
    seen: list[PageRecord] = []

    class WatchingFetcher:
        async def fetch(self, _url: str, _validators: object = None) -> PageMetadata:
            seen.append(await record_of(pages))
            return a_page(200)

    await a_collector(WatchingFetcher(), pages).collect(Delivery(later))
    assert [(it.status, it.metadata) for it in seen] == [(PageStatus.COMPLETED, a_page(404))]
    assert (await record_of(pages)).metadata == a_page(200)


@pytest.mark.parametrize(
    ("fault", "outcome_type"), [(BLOCKED, FailedPermanently), (a_timeout(), RetryLater)]
)
async def test_a_refresh_that_fails_leaves_the_result_and_records_the_error(
    fault: FetchError, outcome_type: type
) -> None:
    pages = FakePages()
    await collect(pages, a_page())
    later = a_request()
    outcome, _ = await collect(pages, fault, request=later)
    assert isinstance(outcome, outcome_type)
    record = await record_of(pages)
    assert (record.status, record.metadata) == (PageStatus.COMPLETED, a_page())
    assert record.error == fault.as_page_error()


async def test_a_page_that_can_not_be_stored_ends_in_a_record_all_the_same() -> None:
    pages = PickyPages()
    outcome, _ = await collect(pages, a_page())
    error = PageError(ErrorKind.NOT_STORABLE, "DocumentTooLarge: 17000000 bytes")
    assert outcome == FailedPermanently(error, PageStatus.FAILED_PERMANENT)
    assert (await record_of(pages)).error == error


async def test_a_last_response_that_can_not_be_stored_is_left_out() -> None:
    pages = PickyPages()
    outcome, _ = await collect(pages, a_page(503), request=a_request(attempt=3))
    assert isinstance(outcome, FailedPermanently)
    assert outcome.error.kind is ErrorKind.HTTP_STATUS
    record = await record_of(pages)
    assert (record.status, record.metadata) == (PageStatus.FAILED_PERMANENT, None)


@pytest.mark.parametrize(
    "result",
    [a_page(), BLOCKED, a_timeout()],
    ids=["a page", "a fault that stays", "a fault that may pass"],
)
async def test_a_worker_whose_claim_was_taken_over_answers_nothing(
    result: PageMetadata | FetchError,
) -> None:
    pages, request = FakePages(), a_request()

    class SlowFetcher(FakeFetcher):
        async def fetch(
            self, url: str, validators: Validators | None = None
        ) -> PageMetadata | NotModified:
            await pages.claim(Delivery(request, redelivered=True), lease_seconds=120)
            return await super().fetch(url, validators)

    outcome = await a_collector(SlowFetcher(result), pages).collect(Delivery(request))
    assert outcome == Coalesced("superseded")
    record = await record_of(pages)
    assert (record.status, record.attempts) == (PageStatus.IN_PROGRESS, 1)


class EndlessFetcher:
    """Never answers; says when it was asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def fetch(self, _url: str, _validators: object = None) -> PageMetadata:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def interrupted(pages: FakePages, request: PageRequest) -> None:
    fetcher = EndlessFetcher()
    collector = a_collector(fetcher, pages)
    collecting = asyncio.create_task(collector.collect(Delivery(request)))
    await fetcher.asked.wait()
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting


async def test_an_attempt_that_is_cut_off_does_not_count_and_holds_nothing() -> None:
    pages, request = FakePages(), a_request()
    await interrupted(pages, request)
    outcome, _ = await collect(pages, a_page(), request=request)
    assert outcome == Completed(PageStatus.COMPLETED)
    assert (await record_of(pages)).attempts == 1


async def test_an_attempt_at_a_busy_host_is_deferred_and_holds_nothing() -> None:
    pages, request = FakePages(), a_request()
    outcome, _ = await collect(pages, HostBusy("no place"), request=request, redelivered=True)
    assert outcome == Deferred(request, "no place", delay_seconds=5, deferrals=1)
    assert (await record_of(pages)).lease_expires_at is None
    assert (await record_of(pages)).attempts == 0


async def test_a_page_beyond_the_fetches_of_a_minute_is_deferred_for_longer_and_longer() -> None:
    pages, request = FakePages(), a_request()
    delays = []
    for deferrals in (0, 5, 6, 100):
        busy = TooManyFetches("the next one may begin in 20 s")
        outcome, _ = await collect(pages, busy, request=request, deferrals=deferrals)
        assert isinstance(outcome, Deferred)
        assert (outcome.request, outcome.reason) == (request, str(busy))
        assert outcome.deferrals == deferrals + 1
        delays.append(outcome.delay_seconds)
    assert delays == [30, 30, 120, 120]
    assert (await record_of(pages)).attempts == 0


async def test_an_attempt_that_is_cut_off_without_a_database_stays_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(_self: object, _claim: Claim) -> None:
        raise unreachable()

    monkeypatch.setattr(FakePages, "abandon", refuse)
    await interrupted(FakePages(), a_request())


async def test_without_a_database_a_page_is_not_fetched() -> None:
    pages = FakePages()
    pages.failing = unreachable
    fetcher, request = FakeFetcher(a_page()), a_request()
    outcome = await a_collector(fetcher, pages).collect(Delivery(request, deferrals=8))
    reason = "ServerSelectionTimeoutError"
    assert outcome == Deferred(request, reason, delay_seconds=30, deferrals=9)
    assert fetcher.fetched == []


@pytest.mark.parametrize("result", [a_page(), a_timeout(), BLOCKED], ids=["page", "retry", "fail"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_database_that_is_away_for_a_while_gets_the_outcome_later(
    slept: list[float], result: PageMetadata | FetchError, times: int
) -> None:
    pages, fetcher = UntakingPages(unreachable, times=times), FakeFetcher(result)
    await a_collector(fetcher, pages).collect(Delivery(a_request()))
    assert (await record_of(pages)).status is not PageStatus.IN_PROGRESS
    assert slept == [0.5, 1, 2][:times]
    assert fetcher.fetched == [URL]


@pytest.mark.parametrize("result", [a_page(), a_timeout(), BLOCKED], ids=["page", "retry", "fail"])
async def test_a_database_that_stays_away_defers_the_message(
    slept: list[float], result: PageMetadata | FetchError
) -> None:
    pages, fetcher = UntakingPages(unreachable, times=1000), FakeFetcher(result)
    outcome = await a_collector(fetcher, pages).collect(Delivery(a_request()))
    assert isinstance(outcome, Deferred)
    assert pages.tries > 1
    assert sum(slept) > 2
    assert fetcher.fetched == [URL]


async def test_an_unforeseen_error_of_the_fetcher_is_a_fault_that_may_pass(log: Log) -> None:
    class BrokenFetcher:
        async def fetch(self, _url: str, _validators: object = None) -> PageMetadata:
            raise ZeroDivisionError("a bug")

    pages = FakePages()
    outcome = await a_collector(BrokenFetcher(), pages).collect(Delivery(a_request()))
    assert isinstance(outcome, RetryLater)
    record = await record_of(pages)
    assert (record.status, record.error) == (PageStatus.FAILED_RETRYABLE, outcome.error)
    assert outcome.error.kind is ErrorKind.INTERNAL
    assert isinstance(log.one("attempt_failed_unforeseen")["exception"].value, ZeroDivisionError)


async def test_an_unforeseen_error_while_a_page_is_kept_ends_in_a_record() -> None:
    class BrokenPages(FakePages):
        async def complete(
            self, claim: Claim, metadata: PageMetadata, event: PageEvent | None = None
        ) -> PageStatus | None:
            del claim, metadata, event
            raise ZeroDivisionError

    pages = BrokenPages()
    outcome, _ = await collect(pages, a_page(), request=a_request(attempt=3))
    assert isinstance(outcome, FailedPermanently)
    record = await record_of(pages)
    assert (record.status, record.error) == (PageStatus.FAILED_PERMANENT, outcome.error)


# --- Pages whose server says that they have not changed ---

TAGGED = a_page(headers=(Header("etag", '"v1"'),))


async def test_a_refresh_asks_with_the_validators_of_the_result_and_keeps_what_is_confirmed(
    log: Log,
) -> None:
    pages = FakePages()
    fetcher = FakeFetcher(TAGGED, NotModified(elapsed_ms=7.5))
    collector = a_collector(fetcher, pages)
    await collector.collect(Delivery(a_request()))
    pages.pass_time(URL, 100)
    outcome = await collector.collect(Delivery(a_request()))
    assert fetcher.validators == [None, Validators(URL, '"v1"', None)]
    assert outcome == Completed(PageStatus.COMPLETED, is_unchanged=True)
    record = await record_of(pages)
    assert (record.metadata, record.refresh) == (TAGGED, None)
    assert record.was_checked_within(50)
    assert log.all("fetch_finished")[-1] == IsPartialDict(
        status_code=304, body_bytes=0, elapsed_ms=7.5
    )


@pytest.mark.parametrize("same", [True, False])
async def test_whether_a_page_has_changed_is_told_by_its_body(*, same: bool) -> None:
    pages = FakePages()
    first, _ = await collect(pages, a_page())
    assert first == Completed(PageStatus.COMPLETED, is_unchanged=False)
    changes = {"body_sha256": a_page().body_sha256 if same else "1" * 64}
    again, _ = await collect(pages, a_page(404, **changes))
    assert again == Completed(PageStatus.COMPLETED, is_unchanged=same)


async def test_a_result_that_is_gone_when_it_is_confirmed_is_fetched_again() -> None:
    pages = FakePages()
    await collect(pages, TAGGED)

    class ChangingFetcher:
        async def fetch(self, url: str, _validators: object = None) -> NotModified:
            pages.replace_result(url, a_page(body_sha256="1" * 64))
            return NotModified(elapsed_ms=1)

    outcome = await a_collector(ChangingFetcher(), pages).collect(Delivery(a_request()))
    assert isinstance(outcome, RetryLater)
    assert outcome.error.kind == ErrorKind.INTERNAL
    refresh = (await record_of(pages)).refresh
    assert refresh is not None
    assert refresh.status is PageStatus.FAILED_RETRYABLE
