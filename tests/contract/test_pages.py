"""The same scenarios on the fake, on Motor, and on pymongo's own asynchronous client."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from dirty_equals import IsApprox, IsNow, IsPartialDict
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient

from app.errors import NotStorable, UnreadableRecord
from app.models import (
    METADATA_FIELDS,
    Awaited,
    Busy,
    Claim,
    Coalesced,
    Delivery,
    Header,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    Refresh,
    Validators,
)
from app.services import Pages
from app.store import pages as page_repository
from app.store.claims import Claims
from app.store.indexes import LISTING_INDEXES
from app.store.mongo import CommandTimer, Database
from app.store.pages import PageRepository
from app.store.progress import mentioning
from dev.servers import MongoDB
from tests.contract.repositories import (
    ERROR,
    LEASE,
    ONCE,
    PATIENCE,
    a_repository,
    claimed,
    found,
    opened,
    status_of,
)
from tests.fakes import URL, FakePages, a_page, a_request

PassTime = Callable[[float], Awaitable[None]]
"""Makes the page at URL as old as if so many seconds had passed."""


@pytest.fixture
def pass_time(pages: Pages) -> PassTime:
    async def age(seconds: float) -> None:
        if isinstance(pages, FakePages):
            pages.pass_time(URL, seconds)
            return
        assert isinstance(pages, PageRepository)
        fields = ("updated_at", "checked_at", "processing.lease_expires_at")
        earlier = {name: {"$subtract": [f"${name}", round(seconds * 1000)]} for name in fields}
        collection = pages._database.pages  # noqa: SLF001 (the fixture has made the repository)
        await collection.update_one({"url": URL}, [{"$set": earlier}])

    return age


async def complete_with_source(pages: Pages, source: str) -> None:
    claim = await pages.claim(Delivery(a_request()), lease_seconds=LEASE)
    assert isinstance(claim, Claim)
    await pages.complete(claim, a_page(page_source=source))


async def test_a_source_of_64_kib_is_read_with_its_record(pages: Pages) -> None:
    await complete_with_source(pages, "x" * 65_536)
    record = await pages.find(URL)
    assert record is not None
    assert record.metadata == a_page(page_source="x" * 65_536)
    assert record.omitted_source_bytes == 0


async def test_a_larger_source_is_left_out_until_it_is_asked_for(pages: Pages) -> None:
    source = "é" * 32_769  # two bytes each
    await complete_with_source(pages, source)
    record, whole = await pages.find(URL), await pages.find_with_source(URL)
    assert record is not None
    assert whole is not None
    assert record.metadata == a_page(page_source=None)
    assert record.omitted_source_bytes == 65_538
    assert whole == replace(record, metadata=a_page(page_source=source), omitted_source_bytes=0)


async def test_an_unknown_page_has_no_record_with_a_source_either(pages: Pages) -> None:
    assert await pages.find_with_source(URL) is None


async def test_an_unknown_page_is_not_found(pages: Pages) -> None:
    assert await pages.find(URL) is None


async def test_a_noted_request_is_queued(pages: Pages) -> None:
    request = a_request()
    await pages.note_queued(request)
    record = await found(pages)
    assert record.status is PageStatus.QUEUED
    assert (record.request_id, record.attempts) == (request.request_id, 0)
    assert record.created_at == record.updated_at
    assert not record.has_stalled


async def test_noting_a_request_twice_keeps_the_first_record(pages: Pages) -> None:
    first = a_request()
    await pages.note_queued(first)
    await pages.note_queued(a_request())
    record = await found(pages)
    assert record.request_id == first.request_id


async def test_of_forty_that_reserve_at_once_one_wins(pages: Pages) -> None:
    won = await asyncio.gather(*(pages.reserve(a_request()) for _ in range(40)))
    assert sorted(won) == [False] * 39 + [True]


async def test_a_reservation_can_be_taken_back(pages: Pages) -> None:
    request = a_request()
    assert await pages.reserve(request)
    await pages.release(request)
    assert await pages.find(URL) is None


async def test_a_reservation_that_was_claimed_is_not_taken_back(pages: Pages) -> None:
    request = a_request()
    await pages.reserve(request)
    await claimed(pages, Delivery(request))
    await pages.release(request)
    assert await status_of(pages) is PageStatus.IN_PROGRESS


async def test_the_first_claim_is_the_first_attempt(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    assert (claim.attempt, claim.refreshes) == (1, False)
    assert await status_of(pages) is PageStatus.IN_PROGRESS


async def test_of_twenty_requests_that_claim_at_once_one_wins(pages: Pages) -> None:
    claims = await asyncio.gather(
        *(pages.claim(Delivery(a_request()), lease_seconds=LEASE) for _ in range(20))
    )
    assert sum(isinstance(claim, Claim) for claim in claims) == 1


async def test_a_page_that_is_fetched_for_another_request_is_busy(pages: Pages) -> None:
    await claimed(pages, Delivery(a_request()))
    assert await pages.claim(Delivery(a_request()), lease_seconds=LEASE) == Busy()


async def test_a_request_noted_before_the_fetch_began_is_answered_by_it(pages: Pages) -> None:
    first, second = a_request(), a_request()
    await pages.note_queued(first)
    await pages.note_queued(second)
    claim = await claimed(pages, Delivery(first))
    under_way = await pages.claim(Delivery(second), lease_seconds=LEASE)
    assert under_way == Coalesced("in_progress")
    await pages.complete(claim, a_page())
    assert await pages.claim(Delivery(second), lease_seconds=LEASE) == Coalesced("answered")


async def test_a_request_noted_after_the_fetch_began_gets_its_own_fetch(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    later = [a_request() for _ in range(20)]
    for request in later:
        await pages.note_queued(request)
    await pages.complete(claim, a_page())
    refresh = await claimed(pages, Delivery(later[0]))
    assert refresh.refreshes
    others = [await pages.claim(Delivery(it), lease_seconds=LEASE) for it in later[1:]]
    assert set(others) == {Coalesced("in_progress")}


async def test_a_request_that_is_noted_while_its_claim_is_refused_is_asked_for_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, other_process = a_repository(database), a_repository(database)
    request, running = a_request(), await claimed(pages, Delivery(a_request()))
    read = Claims._read  # noqa: SLF001 (what happens between the refusal and the look at the record)

    async def end_note_and_read(claims: Claims, urls: Collection[str]) -> Any:
        monkeypatch.setattr(Claims, "_read", read)
        await other_process.fail(running, ERROR)
        await other_process.note_queued(request)
        return await read(claims, urls)

    monkeypatch.setattr(Claims, "_read", end_note_and_read)
    assert await pages.claim(Delivery(request), lease_seconds=LEASE) == Busy()
    await claimed(pages, Delivery(request, deferrals=1))


async def test_a_covered_request_waits_for_the_retry_of_the_request_that_covers_it(
    pages: Pages, pass_time: PassTime
) -> None:
    first, second = a_request(), a_request()
    await pages.note_queued(second)
    await pages.note_retry(await claimed(pages, Delivery(first)), ERROR)
    await pass_time(LEASE + 1)
    answer = await pages.claim(Delivery(second), lease_seconds=LEASE)
    assert answer == Coalesced("in_progress")


async def test_a_covered_request_fetches_itself_if_the_covering_claim_has_died(
    pages: Pages, pass_time: PassTime
) -> None:
    first, second = a_request(), a_request()
    await pages.note_queued(second)
    await claimed(pages, Delivery(first))
    await pass_time(LEASE + 1)
    await claimed(pages, Delivery(second))


async def test_another_request_may_claim_a_page_whose_lease_is_over(
    pages: Pages, pass_time: PassTime
) -> None:
    await claimed(pages, Delivery(a_request()))
    await pass_time(LEASE + 1)
    claim = await claimed(pages, Delivery(a_request()))
    assert claim.attempt == 1


@pytest.mark.parametrize(
    ("ending", "seconds", "has_stalled"),
    [
        pytest.param(None, LEASE - 10, False, id="claimed, within the lease"),
        pytest.param(None, LEASE + 1, True, id="claimed, the lease over"),
        pytest.param("note_retry", PATIENCE - 10, False, id="waiting for its retry"),
        pytest.param("note_retry", PATIENCE + 1, True, id="waiting for a retry that never came"),
        pytest.param("fail", PATIENCE * 100, False, id="failed for good"),
    ],
)
async def test_a_page_that_has_not_ended_stalls_after_its_lease_or_its_patience(
    pages: Pages, pass_time: PassTime, ending: str | None, seconds: float, *, has_stalled: bool
) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    if ending:
        await getattr(pages, ending)(claim, ERROR)
    await pass_time(seconds)
    assert (await found(pages)).has_stalled is has_stalled


async def test_a_redelivered_request_takes_its_own_claim_over(pages: Pages) -> None:
    request = a_request()
    first = await claimed(pages, Delivery(request))
    again = await claimed(pages, Delivery(request, redelivered=True))
    assert (again.attempt, again.lost_alone) == (1, False)
    assert again.token != first.token


async def test_a_page_is_suspect_once_a_worker_died_fetching_it_for_the_same_request(
    pages: Pages,
) -> None:
    request = a_request()
    assert not await pages.is_suspect(Delivery(request, redelivered=True))
    await claimed(pages, Delivery(request))
    assert not await pages.is_suspect(Delivery(a_request(), redelivered=True))
    assert not await pages.is_suspect(Delivery(request))
    assert await pages.is_suspect(Delivery(request, redelivered=True))


async def test_a_page_stays_suspect_for_the_retries_of_its_request_and_no_longer(
    pages: Pages,
) -> None:
    request = a_request()
    await claimed(pages, Delivery(request))
    again = await claimed(pages, Delivery(request, redelivered=True), alone=True)
    await pages.note_retry(again, ERROR)
    retry = Delivery(replace(request, attempt=2))
    assert await pages.is_suspect(retry)
    await pages.complete(await claimed(pages, retry), a_page())
    assert not await pages.is_suspect(retry)


async def test_a_page_that_was_given_back_is_not_suspect(pages: Pages) -> None:
    request = a_request()
    await pages.abandon(await claimed(pages, Delivery(request)))
    assert not await pages.is_suspect(Delivery(request, redelivered=True))


@pytest.mark.parametrize("alone", [True, False])
async def test_only_a_page_that_was_fetched_alone_is_blamed_for_its_worker(
    pages: Pages, *, alone: bool
) -> None:
    request = a_request()
    await claimed(pages, Delivery(request), alone=alone)
    again = await claimed(pages, Delivery(request, redelivered=True), alone=True)
    assert again.lost_alone is alone


async def test_a_second_copy_of_a_message_does_not_take_the_claim(pages: Pages) -> None:
    request = a_request()
    await claimed(pages, Delivery(request))
    copy = await pages.claim(Delivery(request), lease_seconds=LEASE)
    assert copy == Coalesced("in_progress")


async def test_a_deferred_request_takes_its_own_claim_over(pages: Pages) -> None:
    request = a_request()
    await claimed(pages, Delivery(request))
    again = await claimed(pages, Delivery(request, deferrals=1))
    assert again.attempt == 1


async def test_a_retry_counts_from_its_message(pages: Pages) -> None:
    request = a_request(attempt=3)
    claim = await claimed(pages, Delivery(request))
    assert claim.attempt == 3


async def test_a_completed_page_is_read_back_as_it_was_stored(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    assert await pages.complete(claim, a_page()) is PageStatus.COMPLETED
    record = await found(pages)
    assert (record.metadata, record.error, record.attempts) == (a_page(), None, 1)


async def test_a_request_that_no_fetch_has_covered_refreshes_the_page(pages: Pages) -> None:
    await pages.complete(await claimed(pages, Delivery(a_request())), a_page())
    refresh = await claimed(pages, Delivery(a_request()))
    assert refresh.refreshes
    assert await status_of(pages) is PageStatus.COMPLETED


async def test_a_redelivered_request_that_has_its_answer_is_not_fetched_again(
    pages: Pages,
) -> None:
    request = a_request()
    await pages.complete(await claimed(pages, Delivery(request)), a_page())
    again = await pages.claim(Delivery(request, redelivered=True), lease_seconds=LEASE)
    assert again == Coalesced("answered")


@pytest.mark.parametrize("ending", ["fail", "note_retry"])
async def test_a_refresh_that_fails_keeps_the_old_result(pages: Pages, ending: str) -> None:
    await pages.complete(await claimed(pages, Delivery(a_request())), a_page())
    refresh = await claimed(pages, Delivery(a_request()))
    assert await getattr(pages, ending)(refresh, ERROR) is PageStatus.COMPLETED
    record = await found(pages)
    assert (record.metadata, record.error) == (a_page(), ERROR)


async def test_the_retry_of_a_refresh_is_not_taken_for_answered(pages: Pages) -> None:
    await pages.complete(await claimed(pages, Delivery(a_request())), a_page())
    request = a_request()
    await pages.note_retry(await claimed(pages, Delivery(request)), ERROR)
    again = await claimed(pages, Delivery(replace(request, attempt=2)))
    assert (again.refreshes, again.attempt) == (True, 2)


async def test_a_final_failure_keeps_the_last_response(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    assert await pages.fail(claim, ERROR, a_page(503)) is PageStatus.FAILED_PERMANENT
    record = await found(pages)
    assert (record.error, record.metadata) == (ERROR, a_page(503))


async def test_a_request_after_a_final_failure_is_queued_again(pages: Pages) -> None:
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    request = a_request()
    await pages.note_queued(request)
    record = await found(pages)
    assert (record.status, record.error) == (PageStatus.QUEUED, None)
    assert record.request_id == request.request_id


@pytest.mark.parametrize("skew", [timedelta(days=-1), timedelta(0), timedelta(days=1)], ids=str)
async def test_a_note_that_comes_after_its_request_has_failed_hides_nothing(
    pages: Pages, skew: timedelta
) -> None:
    request = a_request(at=datetime.now(UTC) + skew)
    await pages.fail(await claimed(pages, Delivery(request)), ERROR)
    await pages.note_queued(request)
    assert await status_of(pages) is PageStatus.FAILED_PERMANENT


async def test_a_late_note_hides_nothing_even_after_another_request_has_failed(
    pages: Pages,
) -> None:
    first, second = a_request(), a_request()
    await pages.note_queued(second)
    await pages.fail(await claimed(pages, Delivery(first)), ERROR)
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    for request in (first, second):
        await pages.note_queued(request)
    assert await status_of(pages) is PageStatus.FAILED_PERMANENT


async def test_writes_under_a_void_claim_change_nothing(pages: Pages) -> None:
    request = a_request()
    void = await claimed(pages, Delivery(request))
    await claimed(pages, Delivery(request, redelivered=True))
    assert await pages.complete(void, a_page()) is None
    assert await pages.fail(void, ERROR) is None
    assert await status_of(pages) is PageStatus.IN_PROGRESS


@pytest.mark.parametrize("was_claimed", [True, False], ids=["claimed", "queued"])
async def test_of_forty_that_take_up_a_stalled_page_one_wins(
    pages: Pages, *, was_claimed: bool
) -> None:
    request = a_request()
    await pages.note_queued(request)
    if was_claimed:
        await claimed(pages, Delivery(request))
    stalled = await found(pages)
    again = [a_request() for _ in range(40)]
    won = await asyncio.gather(*(pages.reserve_again(request, stalled) for request in again))
    assert sorted(won) == [False] * 39 + [True]
    record = await found(pages)
    assert (record.status, record.attempts) == (PageStatus.QUEUED, 0)
    assert record.lease_expires_at is None


async def test_a_page_whose_record_was_taken_back_meanwhile_is_not_taken_up(pages: Pages) -> None:
    first, second = a_request(), a_request()
    await pages.reserve(first)
    stalled = await found(pages)
    await pages.release(first)
    assert not await pages.reserve_again(second, stalled)
    await pages.restore(stalled, second)
    await pages.release(second)
    assert await pages.find(URL) is None


async def test_a_page_that_was_given_back_meanwhile_is_not_taken_up(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    stalled = await found(pages)
    await pages.abandon(claim)
    assert not await pages.reserve_again(a_request(), stalled)


async def test_a_stalled_page_that_could_not_be_queued_is_as_it_was(
    pages: Pages, pass_time: PassTime
) -> None:
    await claimed(pages, Delivery(a_request()))
    await pass_time(LEASE + 1)
    stalled = await found(pages)
    request = a_request()
    assert await pages.reserve_again(request, stalled)
    assert not (await found(pages)).has_stalled
    await pages.restore(stalled, request)
    assert await found(pages) == stalled
    assert stalled.has_stalled


async def test_a_worker_whose_page_was_queued_again_meanwhile_writes_nothing(
    pages: Pages, pass_time: PassTime
) -> None:
    void = await claimed(pages, Delivery(a_request()))
    await pass_time(LEASE + 1)
    await pages.reserve_again(a_request(), await found(pages))
    assert await pages.complete(void, a_page()) is None
    assert await status_of(pages) is PageStatus.QUEUED


async def test_an_abandoned_claim_does_not_count(pages: Pages) -> None:
    request = a_request()
    await pages.abandon(await claimed(pages, Delivery(request)))
    again = await claimed(pages, Delivery(request, redelivered=True))
    assert again.attempt == 1


async def test_a_page_whose_claim_is_abandoned_has_the_status_it_had_before(pages: Pages) -> None:
    request = a_request()
    claim = await claimed(pages, Delivery(request))
    await pages.abandon(claim)
    assert await status_of(pages) is PageStatus.QUEUED
    await pages.note_retry(await claimed(pages, Delivery(request, redelivered=True)), ERROR)
    await pages.abandon(await claimed(pages, Delivery(replace(request, attempt=2))))
    assert await status_of(pages) is PageStatus.FAILED_RETRYABLE
    await pages.complete(await claimed(pages, Delivery(replace(request, attempt=2))), a_page())
    await pages.abandon(await claimed(pages, Delivery(a_request())))
    assert await status_of(pages) is PageStatus.COMPLETED


async def test_a_void_claim_cannot_be_abandoned(pages: Pages) -> None:
    request = a_request()
    void = await claimed(pages, Delivery(request))
    await claimed(pages, Delivery(request, redelivered=True))
    await pages.abandon(void)
    assert await pages.claim(Delivery(a_request()), lease_seconds=LEASE) == Busy()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(a_page(page_source="x" * 17_000_000), id="over 16 MB"),
        pytest.param(a_page(page_source="\ud800"), id="a lone surrogate"),
        pytest.param(a_page(body_bytes=2**70), id="a number over 64 bits"),
    ],
)
async def test_a_page_that_cannot_be_stored_says_so(database: Database, page: Any) -> None:
    pages = a_repository(database)
    claim = await claimed(pages, Delivery(a_request()))
    with pytest.raises(NotStorable):
        await pages.complete(claim, page)
    assert await pages.fail(claim, ERROR) is PageStatus.FAILED_PERMANENT


async def test_nul_bytes_in_a_page_are_kept(database: Database) -> None:
    pages = a_repository(database)
    claim = await claimed(pages, Delivery(a_request()))
    await pages.complete(claim, a_page(page_source="a\0b"))
    record = await found(pages)
    assert record.metadata == a_page(page_source="a\0b")


async def test_the_document_has_the_published_shape(database: Database) -> None:
    pages, request = a_repository(database), a_request()
    await pages.complete(await claimed(pages, Delivery(request)), a_page())
    document = await database.pages.find_one({"url": URL})
    assert document == IsPartialDict(
        url=URL,
        status="COMPLETED",
        metadata=IsPartialDict(
            final_url=URL, headers=[IsPartialDict(), IsPartialDict(), IsPartialDict()]
        ),
        processing=IsPartialDict(
            attempts=1,
            last_request_id=request.request_id,
            last_attempt_at=IsNow(tz=UTC, delta=10),
            lease_expires_at=None,
            last_error=None,
        ),
        host="example.com",
        created_at=IsNow(tz=UTC, delta=10),
        updated_at=IsNow(tz=UTC, delta=10),
    )


async def test_opening_a_second_time_keeps_the_indexes(
    database: Database, mongodb: MongoDB, database_name: str
) -> None:
    async with opened(mongodb, database_name, AsyncIOMotorClient):
        pass
    indexes = await database.pages.index_information()
    assert indexes["url_1"]["unique"] is True
    assert set(indexes) == {
        *("_id_", "url_1", "created_at_1"),
        *("processing.waiting_1", "processing.covered.request_id_1"),
        *("unpublished.event_id_1", "deleted_at_1"),
        *LISTING_INDEXES,
    }


async def test_an_index_that_takes_longer_to_build_than_an_operation_may_is_waited_for(
    mongodb: MongoDB, unique_name: str
) -> None:
    with MongoClient[dict[str, Any]](mongodb.url) as client:
        urls = [{"url": f"{URL}{number}"} for number in range(300_000)]
        client[unique_name].pages.insert_many(urls, ordered=False)
    database = Database(mongodb.url, unique_name, timeout_seconds=0.2, backoff=ONCE)
    await database.open()
    indexes = await database.pages.index_information()
    await database.close()
    assert indexes["url_1"]["unique"] is True


async def test_a_deferred_copy_that_takes_a_claim_over_leaves_the_other_void(pages: Pages) -> None:
    request = a_request()
    first = await claimed(pages, Delivery(request))
    copy = await claimed(pages, Delivery(request, deferrals=1))
    assert (copy.request_id, copy.attempt) == (first.request_id, first.attempt)
    assert await pages.complete(first, a_page()) is None
    await pages.abandon(first)
    assert await pages.note_retry(copy, ERROR) is PageStatus.FAILED_RETRYABLE
    assert await pages.complete(first, a_page()) is None


async def test_a_retry_takes_over_what_is_left_of_an_earlier_attempt(pages: Pages) -> None:
    request = a_request()
    await claimed(pages, Delivery(request))
    later = await claimed(pages, Delivery(replace(request, attempt=2)))
    assert later.attempt == 2


# --- Refreshes, and how old a result is ---


async def completed(pages: Pages, page: PageMetadata | None = None) -> PageRecord:
    """Have the page at URL fetched, and return its record."""
    await pages.complete(await claimed(pages, Delivery(a_request())), page or a_page())
    return await found(pages)


async def test_a_result_tells_when_it_was_stored_and_how_long_ago_that_is(
    pages: Pages, pass_time: PassTime
) -> None:
    record = await completed(pages)
    assert record.checked_at == IsNow(tz=UTC, delta=10)
    assert record.refresh is None
    await pass_time(100)
    old = await found(pages)
    assert old.age_seconds == IsApprox(100, delta=10)
    assert (old.was_checked_within(120), old.was_checked_within(80)) == (True, False)


async def test_a_page_without_result_has_not_been_checked(pages: Pages) -> None:
    await pages.note_retry(await claimed(pages, Delivery(a_request())), ERROR)
    record = await found(pages)
    assert (record.checked_at, record.refresh) == (None, None)
    assert not record.was_checked_within(1000)


async def test_a_final_failure_is_a_result_that_was_checked(pages: Pages) -> None:
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    record = await found(pages)
    assert record.checked_at == IsNow(tz=UTC, delta=10)
    assert record.was_checked_within(10)


async def test_a_noted_request_for_a_page_with_a_result_is_a_queued_refresh(pages: Pages) -> None:
    before = await completed(pages)
    request = a_request()
    await pages.note_queued(request)
    await pages.note_queued(a_request())
    record = await found(pages)
    assert record.refresh == Refresh(
        PageStatus.QUEUED, request.request_id, record.updated_at, attempts=0, error=None
    )
    assert (record.status, record.checked_at) == (PageStatus.COMPLETED, before.checked_at)
    assert revision_of(record) == revision_of(before) + 1


def revision_of(record: PageRecord) -> int:
    assert record.revision is not None
    return record.revision


async def test_a_refresh_is_seen_from_its_first_attempt_to_its_last(pages: Pages) -> None:
    before, request = await completed(pages), a_request()
    await pages.note_queued(request)
    seen = [await found(pages)]
    for attempt in (1, 2):
        claim = await claimed(pages, Delivery(replace(request, attempt=attempt)))
        seen.append(await found(pages))
        await (pages.note_retry(claim, ERROR) if attempt == 1 else pages.fail(claim, ERROR))
        seen.append(await found(pages))
    assert [
        it.refresh and (it.refresh.status, it.refresh.attempts, it.refresh.error) for it in seen
    ] == [
        (PageStatus.QUEUED, 0, None),
        (PageStatus.IN_PROGRESS, 1, None),
        (PageStatus.FAILED_RETRYABLE, 1, ERROR),
        (PageStatus.IN_PROGRESS, 2, ERROR),
        (PageStatus.FAILED_PERMANENT, 2, ERROR),
    ]
    assert {it.refresh and it.refresh.request_id for it in seen} == {request.request_id}
    assert len({it.refresh and it.refresh.requested_at for it in seen}) == 1
    assert {(it.status, it.checked_at, it.metadata) for it in seen} == {
        (PageStatus.COMPLETED, before.checked_at, a_page())
    }
    revisions = [revision_of(it) for it in seen]
    assert revisions == sorted(set(revisions))


async def test_a_refresh_that_succeeds_is_no_longer_shown(pages: Pages) -> None:
    await completed(pages)
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    assert (await found(pages)).refresh is not None
    assert (await completed(pages)).refresh is None


async def test_a_new_refresh_does_not_have_the_error_of_the_one_before(pages: Pages) -> None:
    await completed(pages)
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    await pages.abandon(await claimed(pages, Delivery(a_request())))
    refresh = (await found(pages)).refresh
    assert refresh is not None
    assert (refresh.status, refresh.error) == (PageStatus.QUEUED, None)


async def test_of_forty_that_reserve_a_refresh_at_once_one_wins(pages: Pages) -> None:
    record = await completed(pages)
    requests = [a_request() for _ in range(40)]
    won = await asyncio.gather(*(pages.reserve_refresh(it, record) for it in requests))
    (reserved,) = [it for it in won if it is not None]
    assert reserved == await found(pages)
    assert reserved.refresh is not None
    assert reserved.refresh.status is PageStatus.QUEUED
    assert reserved.refresh.request_id in {it.request_id for it in requests}
    assert (reserved.metadata, reserved.checked_at) == (record.metadata, record.checked_at)


async def test_a_refresh_is_not_reserved_on_a_record_that_has_changed(pages: Pages) -> None:
    record = await completed(pages)
    await claimed(pages, Delivery(a_request()))
    assert await pages.reserve_refresh(a_request(), record) is None


async def test_two_changes_in_one_millisecond_are_told_apart(database: Database) -> None:
    pages = a_repository(database)
    record = await completed(pages)
    assert await pages.reserve_refresh(a_request(), record)
    same_time = {"$set": {"updated_at": record.updated_at}}
    await database.pages.update_one({"url": URL}, same_time)
    assert await pages.reserve_refresh(a_request(), record) is None


async def test_a_refresh_that_could_not_be_queued_is_withdrawn(pages: Pages) -> None:
    record, request = await completed(pages), a_request()
    assert await pages.reserve_refresh(request, record)
    await pages.withdraw_refresh(request, record)
    after = await found(pages)
    assert after == record
    assert revision_of(after) > revision_of(record)
    assert await pages.reserve_refresh(a_request(), after)


async def test_a_refresh_that_has_begun_is_not_withdrawn(pages: Pages) -> None:
    record, request = await completed(pages), a_request()
    await pages.reserve_refresh(request, record)
    await claimed(pages, Delivery(request))
    await pages.withdraw_refresh(request, record)
    refresh = (await found(pages)).refresh
    assert refresh is not None
    assert refresh.status is PageStatus.IN_PROGRESS


@pytest.mark.parametrize(
    ("state", "seconds"),
    [("queued", PATIENCE + 1), ("claimed", LEASE + 1), ("to be tried again", PATIENCE + 1)],
)
async def test_a_refresh_that_has_stalled_is_reserved_once_and_has_not_stalled_then(
    pages: Pages, pass_time: PassTime, state: str, seconds: float
) -> None:
    await completed(pages)
    request = a_request()
    await pages.note_queued(request)
    if state != "queued":
        claim = await claimed(pages, Delivery(request))
        if state != "claimed":
            await pages.note_retry(claim, ERROR)
    assert not (await found(pages)).has_stalled
    await pass_time(seconds)
    stalled = await found(pages)
    assert stalled.has_stalled
    again = [a_request() for _ in range(20)]
    won = await asyncio.gather(*(pages.reserve_refresh(it, stalled) for it in again))
    assert sum(it is not None for it in won) == 1
    assert not (await found(pages)).has_stalled
    winner = again[next(n for n, it in enumerate(won) if it)]
    await pages.withdraw_refresh(winner, stalled)
    assert (await found(pages)).has_stalled


async def test_the_worker_of_a_refresh_that_was_reserved_again_writes_nothing(
    pages: Pages, pass_time: PassTime
) -> None:
    before = await completed(pages)
    void = await claimed(pages, Delivery(a_request()))
    await pass_time(LEASE + 1)
    request = a_request()
    assert await pages.reserve_refresh(request, await found(pages))
    assert await pages.complete(void, a_page(204)) is None
    assert (await found(pages)).metadata == before.metadata
    await completed_by(pages, request)
    assert (await found(pages)).refresh is None


async def completed_by(pages: Pages, request: PageRequest) -> None:
    await pages.complete(await claimed(pages, Delivery(request)), a_page())


async def test_a_failed_page_that_is_reserved_again_can_be_what_it_was(pages: Pages) -> None:
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    failed, request = await found(pages), a_request()
    assert await pages.reserve_again(request, failed)
    assert await status_of(pages) is PageStatus.QUEUED
    await pages.restore(failed, request)
    assert await found(pages) == failed
    assert await pages.find_request(request.request_id) is None


# --- Results that their server confirms ---

DATED = Header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
SENT = Header("date", "Fri, 02 Jan 2026 00:00:00 GMT")
TAGGED = Header("etag", '"v1"')


async def test_a_refresh_is_given_the_validators_and_the_body_of_the_result(pages: Pages) -> None:
    await completed(pages, a_page(headers=(TAGGED, DATED, SENT)))
    claim = await claimed(pages, Delivery(a_request()))
    assert claim.validators == Validators(URL, '"v1"', DATED.value)
    assert claim.body_sha256 == a_page().body_sha256


async def test_a_page_without_result_has_nothing_to_confirm(pages: Pages) -> None:
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR, a_page(headers=(TAGGED,)))
    await pages.note_queued(request := a_request())
    claim = await claimed(pages, Delivery(request))
    assert (claim.validators, claim.body_sha256) == (None, None)


async def test_the_validators_of_a_result_that_was_replaced_are_not_used(pages: Pages) -> None:
    await completed(pages, a_page(headers=(TAGGED,)))
    await completed(pages, a_page(body_sha256="1" * 64))
    claim = await claimed(pages, Delivery(a_request()))
    assert (claim.validators, claim.body_sha256) == (None, "1" * 64)


async def test_a_confirmed_result_stays_and_was_checked(pages: Pages, pass_time: PassTime) -> None:
    await completed(pages, a_page(headers=(TAGGED,)))
    await pass_time(100)
    claim = await claimed(pages, Delivery(a_request()))
    assert await pages.confirm(claim) is PageStatus.COMPLETED
    record = await found(pages)
    assert record.metadata == a_page(headers=(TAGGED,))
    assert (record.refresh, record.error) == (None, None)
    assert record.was_checked_within(50)
    assert (await claimed(pages, Delivery(a_request()))).validators == claim.validators


async def test_nothing_is_confirmed_under_a_void_claim(pages: Pages, pass_time: PassTime) -> None:
    await completed(pages)
    void = await claimed(pages, Delivery(a_request()))
    await pass_time(LEASE + 1)
    await claimed(pages, Delivery(a_request()))
    assert await pages.confirm(void) is None
    assert not (await found(pages)).was_checked_within(LEASE)


@pytest.mark.parametrize(
    "change", [{"metadata": None}, {"metadata.body_sha256": "1" * 64}], ids=str
)
async def test_a_result_that_was_changed_meanwhile_is_not_confirmed(
    database: Database, change: dict[str, Any]
) -> None:
    pages = a_repository(database)
    await completed(pages, a_page(headers=(TAGGED,)))
    claim = await claimed(pages, Delivery(request := a_request()))
    await database.pages.update_one({"url": URL}, {"$set": change})
    assert await pages.confirm(claim) is None
    assert await pages.note_retry(claim, ERROR) is PageStatus.COMPLETED
    again = await claimed(pages, Delivery(replace(request, attempt=2)))
    assert again.validators is None


async def test_a_page_that_was_deleted_meanwhile_is_not_confirmed(database: Database) -> None:
    pages = a_repository(database)
    await completed(pages)
    claim = await claimed(pages, Delivery(a_request()))
    await database.pages.delete_one({"url": URL})
    assert await pages.confirm(claim) is None
    assert await pages.find(URL) is None


# --- What became of a request ---


async def state_of(pages: Pages, request: PageRequest) -> tuple[Any, ...] | None:
    state = await pages.find_request(request.request_id)
    if state is None:
        return None
    assert (state.request_id, state.url) == (request.request_id, request.url)
    return state.status, state.attempts, state.error, state.answered_by


async def test_a_request_that_nobody_made_is_not_found(pages: Pages) -> None:
    await completed(pages)
    assert await state_of(pages, a_request()) is None


@pytest.mark.parametrize("by", ["note_queued", "reserve"])
async def test_a_request_is_known_from_its_record_to_its_outcome(pages: Pages, by: str) -> None:
    request = a_request()
    me = request.request_id
    await getattr(pages, by)(request)
    assert await state_of(pages, request) == (PageStatus.QUEUED, 0, None, None)
    claim = await claimed(pages, Delivery(request))
    assert await state_of(pages, request) == (PageStatus.IN_PROGRESS, 1, None, me)
    await pages.note_retry(claim, ERROR)
    assert await state_of(pages, request) == (PageStatus.FAILED_RETRYABLE, 1, ERROR, me)
    claim = await claimed(pages, Delivery(replace(request, attempt=2)))
    await pages.complete(claim, a_page())
    assert await state_of(pages, request) == (PageStatus.COMPLETED, 2, None, me)


async def test_a_request_that_shared_the_fetch_of_another_is_known(pages: Pages) -> None:
    first, second, third = a_request(), a_request(), a_request()
    await pages.note_queued(first)
    await pages.note_queued(second)
    claim = await claimed(pages, Delivery(first))
    await pages.note_queued(third)
    await pages.fail(claim, ERROR)
    failed = (PageStatus.FAILED_PERMANENT, 1, ERROR, first.request_id)
    assert await state_of(pages, second) == failed
    assert await state_of(pages, third) == (PageStatus.QUEUED, 0, None, None)
    await completed_by(pages, third)
    assert await state_of(pages, second) == failed
    assert await state_of(pages, third) == (PageStatus.COMPLETED, 1, None, third.request_id)


async def test_a_refresh_that_failed_is_known_by_its_request(pages: Pages) -> None:
    await completed(pages)
    request = a_request()
    await pages.fail(await claimed(pages, Delivery(request)), ERROR)
    await completed(pages)
    state = await state_of(pages, request)
    assert state == (PageStatus.FAILED_PERMANENT, 1, ERROR, request.request_id)


async def test_a_request_whose_claim_was_lost_is_answered_by_the_next_one(
    pages: Pages, pass_time: PassTime
) -> None:
    lost, next_one = a_request(), a_request()
    await claimed(pages, Delivery(lost))
    await pass_time(LEASE + 1)
    await completed_by(pages, next_one)
    assert await state_of(pages, lost) == (PageStatus.COMPLETED, 1, None, next_one.request_id)


async def test_a_request_is_forgotten_after_ten_later_outcomes(pages: Pages) -> None:
    request = a_request()
    await completed_by(pages, request)
    for _ in range(9):
        await completed(pages)
    assert await state_of(pages, request) is not None
    await completed(pages)
    assert await state_of(pages, request) is None


async def test_a_request_is_found_by_an_index(database: Database) -> None:
    query = mentioning(a_request().request_id)
    plan = await database.pages.find(query).explain()
    text = str(plan["queryPlanner"]["winningPlan"])
    assert "COLLSCAN" not in text
    assert all(name in text for name in ("processing.waiting_1", "processing.covered.request_id_1"))


async def test_a_record_does_not_grow_with_its_requests(database: Database) -> None:
    pages = a_repository(database)
    for _ in range(30):
        waiting = [a_request() for _ in range(5)]
        for request in waiting:
            await pages.note_queued(request)
        await pages.fail(await claimed(pages, Delivery(waiting[0])), ERROR)
    document = await database.pages.find_one({"url": URL})
    processing = document["processing"]
    assert len(processing["outcomes"]) == 10
    assert len(processing["covered"]) == 55
    assert processing["outcome"] == 30


# --- Many at once ---


def numbered(number: int) -> str:
    return f"{URL}{number}"


async def test_pages_claimed_and_completed_at_once_do_not_mix(pages: Pages) -> None:
    urls = [numbered(number) for number in range(30)]
    claims = await asyncio.gather(
        *(
            claimed(pages, Delivery(a_request(url=url, attempt=1 + n % 3)))
            for n, url in enumerate(urls)
        )
    )
    assert [(claim.url, claim.attempt) for claim in claims] == [
        (url, 1 + n % 3) for n, url in enumerate(urls)
    ]
    statuses = await asyncio.gather(
        *(pages.complete(claim, a_page(final_url=claim.url)) for claim in claims)
    )
    assert statuses == [PageStatus.COMPLETED] * 30
    for url in urls:
        record = await found(pages, url)
        assert record.metadata is not None
        assert record.metadata.final_url == url


async def test_of_many_requests_for_one_page_at_once_one_has_it(pages: Pages) -> None:
    deliveries = [Delivery(a_request()) for _ in range(20)] + [
        Delivery(a_request(url=numbered(number))) for number in range(5)
    ]
    answers = await asyncio.gather(
        *(pages.claim(delivery, lease_seconds=LEASE) for delivery in deliveries)
    )
    assert [type(answer) for answer in answers[:20]].count(Claim) == 1
    assert [type(answer) for answer in answers[:20]].count(Busy) == 19
    assert all(isinstance(answer, Claim) for answer in answers[20:])


async def test_one_message_delivered_many_times_at_once_has_its_page_once(pages: Pages) -> None:
    delivery = Delivery(a_request())
    answers = await asyncio.gather(*(pages.claim(delivery, lease_seconds=LEASE) for _ in range(20)))
    assert [type(answer) for answer in answers].count(Claim) == 1


@pytest.mark.parametrize("by", ["another request", "the same message"])
@pytest.mark.parametrize("has_ended", [True, False], ids=["ended since", "at work"])
async def test_a_claim_that_is_void_ends_nothing_among_others_that_hold(
    pages: Pages, pass_time: PassTime, by: str, *, has_ended: bool
) -> None:
    request = a_request()
    void = await claimed(pages, Delivery(request))
    same = by == "the same message"
    await pass_time(LEASE + 1)
    taking_over = Delivery(request if same else a_request(), redelivered=same)
    holding = await claimed(pages, taking_over)
    if has_ended:
        await pages.fail(holding, ERROR)
    good = [await claimed(pages, Delivery(a_request(url=numbered(n)))) for n in range(5)]
    statuses = await asyncio.gather(*(pages.complete(claim, a_page()) for claim in [void, *good]))
    assert statuses == [None] + [PageStatus.COMPLETED] * 5
    wanted = PageStatus.FAILED_PERMANENT if has_ended else PageStatus.IN_PROGRESS
    assert await status_of(pages) is wanted


@pytest.mark.parametrize("is_void", [True, False], ids=["a void claim", "claims that hold"])
async def test_pages_are_claimed_and_completed_by_the_same_bulk(
    pages: Pages, pass_time: PassTime, *, is_void: bool
) -> None:
    first = await claimed(pages, Delivery(a_request()))
    others = [await claimed(pages, Delivery(a_request(url=numbered(n)))) for n in range(3)]
    if is_void:
        await pass_time(LEASE + 1)
        await claimed(pages, Delivery(a_request()))
    new = [Delivery(a_request(url=numbered(n))) for n in range(10, 14)]
    # What comes first goes alone. The others are collected meanwhile.
    *answers, one, two, three, four = await asyncio.gather(
        *(pages.claim(delivery, lease_seconds=LEASE) for delivery in new),
        *(pages.complete(claim, a_page()) for claim in [first, *others]),
    )
    assert [type(answer) for answer in answers] == [Claim] * 4
    assert one is (None if is_void else PageStatus.COMPLETED)
    assert (two, three, four) == (PageStatus.COMPLETED,) * 3


async def test_a_page_that_cannot_be_stored_does_not_fail_those_beside_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_repository, "LARGE_PAGE_CHARACTERS", 10**9)
    pages = a_repository(database)
    claims = [await claimed(pages, Delivery(a_request(url=numbered(n)))) for n in range(6)]
    contents = [a_page()] * 4 + [a_page(page_source="x" * 17_000_000), a_page(page_source="\ud800")]
    answers = await asyncio.gather(
        *(pages.complete(claim, page) for claim, page in zip(claims, contents, strict=True)),
        return_exceptions=True,
    )
    assert answers[:4] == [PageStatus.COMPLETED] * 4
    assert [type(answer) for answer in answers[4:]] == [NotStorable] * 2


async def test_a_message_that_cannot_be_claimed_does_not_fail_those_beside_it(
    database: Database,
) -> None:
    pages = a_repository(database)
    deliveries = [Delivery(a_request(url=numbered(n))) for n in range(5)]
    deliveries.insert(3, Delivery(a_request(url=numbered(9), attempt=2**63)))
    answers = await asyncio.gather(
        *(pages.claim(delivery, lease_seconds=LEASE) for delivery in deliveries),
        return_exceptions=True,
    )
    assert isinstance(answers.pop(3), NotStorable)
    assert [type(answer) for answer in answers] == [Claim] * 5


# --- Records of other versions ---


async def test_one_record_that_cannot_be_read_fails_its_own_readers_alone(
    database: Database,
) -> None:
    pages = a_repository(database)
    for number in range(5):
        claim = await claimed(pages, Delivery(a_request(url=numbered(number))))
        await pages.complete(claim, a_page())
    await database.pages.update_one({"url": numbered(2)}, {"$unset": {"metadata.headers": 1}})
    answers = await asyncio.gather(
        *(pages.find(numbered(number)) for number in range(5)), return_exceptions=True
    )
    assert isinstance(answers.pop(2), UnreadableRecord)
    assert all(isinstance(answer, PageRecord) for answer in answers)


async def test_kinds_and_statuses_of_a_newer_version_are_read_as_text(database: Database) -> None:
    pages = a_repository(database)
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    newer = {"status": "ARCHIVED", "processing.last_error.kind": "quota"}
    await database.pages.update_one({"url": URL}, {"$set": newer})
    record = await found(pages)
    assert (record.status, record.error) == ("ARCHIVED", replace(ERROR, kind="quota"))
    assert not record.has_stalled


async def test_a_record_of_version_0_1_0_is_claimed_and_completed(database: Database) -> None:
    pages, request = a_repository(database), a_request(attempt=2)
    now = datetime.now(UTC)
    processing = {
        "attempts": 1,
        "last_request_id": request.request_id,
        "last_attempt_at": now,
        "lease_expires_at": None,
        "last_error": {"kind": "timeout", "message": "no answer in time"},
        "claim": uuid4(),
    }
    await database.pages.insert_one(
        {
            "url": URL,
            "status": "FAILED_RETRYABLE",
            "metadata": None,
            "processing": processing,
            "created_at": now,
            "updated_at": now,
        }
    )
    claim = await claimed(pages, Delivery(request))
    assert claim.attempt == 2
    assert await pages.complete(claim, a_page()) is PageStatus.COMPLETED


# --- Some fields of the metadata ---


async def test_of_the_metadata_only_the_named_fields_are_read(pages: Pages) -> None:
    await complete_with_source(pages, "x" * 100_000)
    record = await pages.find(URL, frozenset({"status_code", "headers"}))
    assert record is not None
    assert record.selected == {"status_code": 200, "headers": a_page().headers}
    assert (record.metadata, record.omitted_source_bytes) == (None, 0)


async def test_no_field_may_be_named(pages: Pages) -> None:
    await complete_with_source(pages, "x")
    record = await pages.find(URL, frozenset())
    assert record is not None
    assert (record.metadata, record.selected) == (None, {})


async def test_a_page_without_metadata_has_no_selected_fields_either(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    await pages.fail(claim, ERROR)
    for fields in (frozenset[str](), frozenset({"status_code"}), frozenset({"page_source"})):
        record = await pages.find(URL, fields)
        assert record is not None
        assert (record.metadata, record.selected) == (None, None)


@pytest.mark.parametrize(("size", "omitted"), [(65_536, 0), (65_537, 65_537)])
async def test_a_named_source_is_left_out_only_if_it_is_large(
    pages: Pages, size: int, omitted: int
) -> None:
    await complete_with_source(pages, "x" * size)
    fields = frozenset({"page_source", "charset"})
    record = await pages.find(URL, fields)
    whole = await pages.find_with_source(URL, fields)
    assert record is not None
    assert whole is not None
    assert record.selected == {"page_source": None if omitted else "x" * size, "charset": "utf-8"}
    assert record.omitted_source_bytes == omitted
    assert whole.selected == {"page_source": "x" * size, "charset": "utf-8"}


async def test_reads_of_different_fields_at_once_do_not_get_each_others(pages: Pages) -> None:
    await complete_with_source(pages, "x")
    some = [frozenset({"status_code"}), frozenset({"charset"}), METADATA_FIELDS]
    records = await asyncio.gather(*(pages.find(URL, fields) for fields in some * 10))
    for fields, record in zip(some * 10, records, strict=True):
        assert record is not None
        assert (record.metadata is not None) == (fields == METADATA_FIELDS)
        assert record.selected is None or set(record.selected) == fields


async def test_a_field_that_an_old_record_does_not_have_is_left_out(database: Database) -> None:
    pages = a_repository(database)
    await complete_with_source(pages, "x")
    await database.pages.update_one({"url": URL}, {"$unset": {"metadata.charset": 1}})
    record = await pages.find(URL, frozenset({"status_code", "charset"}))
    assert record is not None
    assert record.selected == {"status_code": 200}


async def test_what_is_not_named_does_not_leave_the_database(database: Database) -> None:
    await complete_with_source(a_repository(database), "x")
    await database.pages.update_one({"url": URL}, {"$set": {"metadata.page_source": 7}})
    for fields in (frozenset[str](), frozenset({"status_code"})):
        assert await a_repository(database).find(URL, fields) is not None


async def test_every_outcome_has_a_revision_of_its_own(pages: Pages) -> None:
    seen = []
    for _ in range(3):
        await complete_with_source(pages, "the same")
        seen.append((await found(pages)).revision)
    assert None not in seen
    assert len(set(seen)) == 3


async def test_a_reserved_refresh_is_returned_with_the_named_fields_alone(pages: Pages) -> None:
    await complete_with_source(pages, "x" * 100_000)
    record = await pages.find(URL, frozenset())
    assert record is not None
    reserved = await pages.reserve_refresh(a_request(), record, frozenset({"status_code"}))
    assert reserved is not None
    assert (reserved.metadata, reserved.selected) == (None, {"status_code": 200})
    assert reserved.is_being_refreshed


# --- What callers wait for ---


async def is_over(pages: Pages, request_id: UUID | None = None) -> bool:
    wait = Awaited(URL, request_id)
    over = await pages.answered([wait, Awaited("https://example.com/other")])
    assert over <= {wait}
    return wait in over


async def test_a_page_that_nobody_knows_has_not_ended(pages: Pages) -> None:
    assert not await is_over(pages)
    assert not await is_over(pages, uuid4())


@pytest.mark.parametrize("ending", ["complete", "fail"])
async def test_a_page_has_ended_once_it_has_a_result(pages: Pages, ending: str) -> None:
    request = a_request()
    await pages.note_queued(request)
    claim = await claimed(pages, Delivery(request))
    assert not await is_over(pages)
    assert not await is_over(pages, request.request_id)
    if ending == "complete":
        await pages.complete(claim, a_page())
    else:
        await pages.fail(claim, ERROR)
    assert await is_over(pages)
    assert await is_over(pages, request.request_id)


async def test_a_failure_that_is_tried_again_ends_nothing(pages: Pages) -> None:
    request = a_request()
    await pages.note_queued(request)
    await pages.note_retry(await claimed(pages, Delivery(request)), ERROR)
    assert not await is_over(pages)
    assert not await is_over(pages, request.request_id)


async def test_a_refresh_is_awaited_though_the_page_has_a_result(pages: Pages) -> None:
    await complete_with_source(pages, "old")
    request = a_request()
    await pages.note_queued(request)
    assert await is_over(pages)
    assert not await is_over(pages, request.request_id)
    claim = await claimed(pages, Delivery(request))
    assert not await is_over(pages, request.request_id)
    await pages.fail(claim, ERROR)
    assert await is_over(pages, request.request_id)


async def test_a_request_accepted_during_a_fetch_is_not_answered_by_it(pages: Pages) -> None:
    running = await claimed(pages, Delivery(a_request()))
    request = a_request()
    await pages.note_queued(request)
    await pages.complete(running, a_page())
    assert not await is_over(pages, request.request_id)
    await pages.complete(await claimed(pages, Delivery(request)), a_page())
    assert await is_over(pages, request.request_id)


async def test_an_answered_request_stays_so_while_the_next_fetch_is_under_way(
    pages: Pages,
) -> None:
    first, shared, second = a_request(), a_request(), a_request()
    await pages.note_queued(first)
    await pages.note_queued(shared)
    await pages.complete(await claimed(pages, Delivery(first)), a_page())
    await pages.note_queued(second)
    claim = await claimed(pages, Delivery(second))
    await pages.note_retry(claim, ERROR)
    await claimed(pages, Delivery(replace(second, attempt=2)))
    waits = [Awaited(URL, request.request_id) for request in (first, shared, second)]
    assert await pages.answered(waits) == set(waits[:2])


async def test_a_request_whose_fetch_was_lost_is_not_answered_by_the_next_claim(
    pages: Pages, pass_time: PassTime
) -> None:
    lost, shared, other = a_request(), a_request(), a_request()
    await pages.note_queued(lost)
    await pages.note_queued(shared)
    await claimed(pages, Delivery(lost))
    await pass_time(LEASE + 1)
    claim = await claimed(pages, Delivery(other))
    assert not await is_over(pages, shared.request_id)
    await pages.complete(claim, a_page())
    assert await is_over(pages, shared.request_id)


async def test_an_outcome_costs_one_command_if_its_claim_holds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = a_repository(database)
    claim = await claimed(pages, Delivery(a_request()))
    commands: list[str] = []
    monkeypatch.setattr(
        CommandTimer, "succeeded", lambda _timer, event: commands.append(event.command_name)
    )
    assert await pages.complete(claim, a_page()) is PageStatus.COMPLETED
    assert commands == ["update"]
    assert await pages.complete(claim, a_page()) is PageStatus.COMPLETED
    assert commands == ["update", "update", "find"]


async def test_a_thousand_waits_cost_one_query(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = a_repository(database)
    await complete_with_source(pages, "x" * 1_000_000)
    commands: list[Any] = []
    monkeypatch.setattr(CommandTimer, "succeeded", lambda _timer, event: commands.append(event))
    urls = [f"https://example.com/{number}" for number in range(999)]
    waits = [Awaited(url, uuid4() if url.endswith("7") else None) for url in [URL, *urls]]
    assert await pages.answered(waits) == {Awaited(URL)}
    assert [event.command_name for event in commands] == ["find"]
    assert len(str(commands[0].reply)) < 2000
