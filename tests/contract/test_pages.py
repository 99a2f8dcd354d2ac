"""The same scenarios on the fake, on Motor, and on pymongo's own asynchronous client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from dirty_equals import IsPartialDict
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from app.errors import NotStorable
from app.models import Claim, Coalesced, Delivery, ErrorKind, PageError, PageStatus
from app.retries import Backoff
from app.services import Pages
from app.store import attempts
from app.store import pages as page_repository
from app.store.mongo import Database
from app.store.pages import PageRepository
from dev.servers import MongoDB
from tests.fakes import NOW, URL, FakePages, a_page, a_request

LATER = NOW + timedelta(seconds=10)
MUCH_LATER = NOW + timedelta(hours=1)
ERROR = PageError(ErrorKind.CONNECT, "connection refused")
LEASE = 120.0

ONCE = Backoff(initial=0.1, maximum=0.1, multiplier=1, attempts=1)


@asynccontextmanager
async def opened(mongodb: MongoDB, name: str, client_class: Any) -> AsyncIterator[Database]:
    database = Database(
        mongodb.url, name, timeout_seconds=5, backoff=ONCE, client_class=client_class
    )
    await database.open()
    try:
        yield database
    finally:
        await database.close()
        await asyncio.sleep(0)  # asyncio closes transports in the loop's next round


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def database(
    request: pytest.FixtureRequest, mongodb: MongoDB, unique_name: str
) -> AsyncIterator[Database]:
    async with opened(mongodb, unique_name, request.param) as database:
        yield database


@pytest.fixture(params=["fake", "motor", "motor in bulk", "pymongo"])
async def pages(
    request: pytest.FixtureRequest, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pages]:
    if request.param == "fake":
        yield FakePages()
        return
    if request.param == "motor in bulk":
        monkeypatch.setattr(attempts, "ALONE", 0)
    client_class = AsyncMongoClient if request.param == "pymongo" else AsyncIOMotorClient
    mongodb = request.getfixturevalue("mongodb")
    async with opened(mongodb, unique_name, client_class) as database:
        yield PageRepository(database)


async def claimed(pages: Pages, delivery: Delivery, *, now: Any = LATER) -> Claim:
    claim = await pages.claim(delivery, now=now, lease_seconds=LEASE)
    assert isinstance(claim, Claim)
    return claim


async def status_of(pages: Pages, url: str = URL) -> PageStatus:
    record = await pages.find(url)
    assert record is not None
    return record.status


async def test_an_unknown_page_is_not_found(pages: Pages) -> None:
    assert await pages.find(URL) is None


async def test_a_noted_request_is_queued(pages: Pages) -> None:
    request = a_request()
    await pages.note_queued(request)
    record = await pages.find(URL)
    assert record is not None
    assert record.status is PageStatus.QUEUED
    assert (record.request_id, record.attempts) == (request.request_id, 0)
    assert record.created_at == record.updated_at == NOW


async def test_noting_a_request_twice_keeps_the_first_record(pages: Pages) -> None:
    first = a_request()
    await pages.note_queued(first)
    await pages.note_queued(a_request(at=LATER))
    record = await pages.find(URL)
    assert record is not None
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
        *(pages.claim(Delivery(a_request()), now=LATER, lease_seconds=LEASE) for _ in range(20))
    )
    assert sum(isinstance(claim, Claim) for claim in claims) == 1


async def test_a_page_held_by_another_request_is_not_claimed(pages: Pages) -> None:
    await claimed(pages, Delivery(a_request()))
    second = await pages.claim(Delivery(a_request()), now=LATER, lease_seconds=LEASE)
    assert second == Coalesced("in_progress")


async def test_a_claim_ends_with_its_lease(pages: Pages) -> None:
    await claimed(pages, Delivery(a_request()))
    claim = await claimed(pages, Delivery(a_request()), now=MUCH_LATER)
    assert claim.attempt == 1


async def test_a_redelivered_request_takes_its_own_claim_over_and_counts(pages: Pages) -> None:
    request = a_request()
    await claimed(pages, Delivery(request))
    again = await claimed(pages, Delivery(request, redelivered=True))
    assert again.attempt == 2


async def test_a_second_copy_of_a_message_does_not_take_the_claim(pages: Pages) -> None:
    request = a_request()
    await claimed(pages, Delivery(request))
    copy = await pages.claim(Delivery(request), now=LATER, lease_seconds=LEASE)
    assert copy == Coalesced("in_progress")


async def test_a_deferred_request_takes_its_claim_over_without_counting(pages: Pages) -> None:
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
    record = await pages.find(URL)
    assert record is not None
    assert (record.metadata, record.error, record.attempts) == (a_page(), None, 1)


async def test_a_request_made_before_the_fetch_is_answered_by_it(pages: Pages) -> None:
    await pages.complete(await claimed(pages, Delivery(a_request())), a_page())
    earlier = await pages.claim(Delivery(a_request()), now=MUCH_LATER, lease_seconds=LEASE)
    assert earlier == Coalesced("answered")


async def test_a_request_made_after_the_fetch_refreshes_the_page(pages: Pages) -> None:
    await pages.complete(await claimed(pages, Delivery(a_request())), a_page())
    refresh = await claimed(pages, Delivery(a_request(at=MUCH_LATER)), now=MUCH_LATER)
    assert refresh.refreshes
    assert await status_of(pages) is PageStatus.COMPLETED


@pytest.mark.parametrize("ending", ["fail", "note_retry"])
async def test_a_refresh_that_fails_keeps_the_old_result(pages: Pages, ending: str) -> None:
    await pages.complete(await claimed(pages, Delivery(a_request())), a_page())
    refresh = await claimed(pages, Delivery(a_request(at=MUCH_LATER)), now=MUCH_LATER)
    assert await getattr(pages, ending)(refresh, ERROR) is PageStatus.COMPLETED
    record = await pages.find(URL)
    assert record is not None
    assert (record.metadata, record.error) == (a_page(), ERROR)


async def test_the_retry_of_a_refresh_is_not_taken_for_answered(pages: Pages) -> None:
    await pages.complete(await claimed(pages, Delivery(a_request())), a_page())
    request = a_request(at=LATER + timedelta(seconds=1))
    refresh = await claimed(pages, Delivery(request), now=MUCH_LATER)
    await pages.note_retry(refresh, ERROR)
    again = await claimed(pages, Delivery(request), now=MUCH_LATER)
    assert again.refreshes


async def test_a_final_failure_keeps_the_last_response(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    assert await pages.fail(claim, ERROR, a_page(503)) is PageStatus.FAILED_PERMANENT
    record = await pages.find(URL)
    assert record is not None
    assert (record.error, record.metadata) == (ERROR, a_page(503))


async def test_a_request_after_a_final_failure_is_queued_again(pages: Pages) -> None:
    await pages.fail(await claimed(pages, Delivery(a_request())), ERROR)
    request = a_request(at=MUCH_LATER.replace(year=2100))
    await pages.note_queued(request)
    record = await pages.find(URL)
    assert record is not None
    assert (record.status, record.error) == (PageStatus.QUEUED, None)
    assert record.request_id == request.request_id


async def test_a_failure_newer_than_the_request_is_not_hidden(pages: Pages) -> None:
    request = a_request()
    await pages.fail(await claimed(pages, Delivery(request)), ERROR)
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
    stalled = await pages.find(URL)
    assert stalled is not None
    again = [a_request(at=MUCH_LATER) for _ in range(40)]
    won = await asyncio.gather(*(pages.reserve_again(request, stalled) for request in again))
    assert sorted(won) == [False] * 39 + [True]
    record = await pages.find(URL)
    assert record is not None
    assert (record.status, record.attempts) == (PageStatus.QUEUED, 0)
    assert record.lease_expires_at is None


async def test_a_page_that_was_given_back_meanwhile_is_not_taken_up(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    stalled = await pages.find(URL)
    assert stalled is not None
    await pages.abandon(claim)
    assert not await pages.reserve_again(a_request(at=MUCH_LATER), stalled)


async def test_a_stalled_page_that_could_not_be_queued_is_as_it_was(pages: Pages) -> None:
    await claimed(pages, Delivery(a_request()))
    stalled = await pages.find(URL)
    assert stalled is not None
    request = a_request(at=MUCH_LATER)
    await pages.reserve_again(request, stalled)
    await pages.restore(stalled, request)
    assert await pages.find(URL) == stalled


async def test_an_abandoned_claim_does_not_count(pages: Pages) -> None:
    request = a_request()
    await pages.abandon(await claimed(pages, Delivery(request)))
    again = await claimed(pages, Delivery(request, redelivered=True))
    assert again.attempt == 1


async def test_a_void_claim_cannot_be_abandoned(pages: Pages) -> None:
    request = a_request()
    void = await claimed(pages, Delivery(request))
    await claimed(pages, Delivery(request, redelivered=True))
    await pages.abandon(void)
    taken = await pages.claim(Delivery(a_request()), now=LATER, lease_seconds=LEASE)
    assert taken == Coalesced("in_progress")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(a_page(page_source="x" * 17_000_000), id="over 16 MB"),
        pytest.param(a_page(page_source="\ud800"), id="a lone surrogate"),
        pytest.param(a_page(body_bytes=2**70), id="a number over 64 bits"),
    ],
)
async def test_a_page_that_cannot_be_stored_says_so(database: Database, page: Any) -> None:
    pages = PageRepository(database)
    claim = await claimed(pages, Delivery(a_request()))
    with pytest.raises(NotStorable):
        await pages.complete(claim, page)
    assert await pages.fail(claim, ERROR) is PageStatus.FAILED_PERMANENT


async def test_nul_bytes_in_a_page_are_kept(database: Database) -> None:
    pages = PageRepository(database)
    claim = await claimed(pages, Delivery(a_request()))
    await pages.complete(claim, a_page(page_source="a\0b"))
    record = await pages.find(URL)
    assert record is not None
    assert record.metadata == a_page(page_source="a\0b")


async def test_the_document_has_the_published_shape(database: Database) -> None:
    pages, request = PageRepository(database), a_request()
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
            last_attempt_at=LATER,
            lease_expires_at=None,
            last_error=None,
        ),
        created_at=LATER,
    )


async def test_opening_a_second_time_keeps_the_indexes(
    database: Database, mongodb: MongoDB, unique_name: str
) -> None:
    async with opened(mongodb, unique_name, AsyncIOMotorClient):
        pass
    indexes = await database.pages.index_information()
    assert indexes["url_1"]["unique"] is True
    assert set(indexes) == {"_id_", "url_1", "created_at_1"}


async def test_a_put_off_copy_that_takes_a_claim_over_leaves_the_other_void(pages: Pages) -> None:
    request = a_request()
    first = await claimed(pages, Delivery(request), now=NOW)
    copy = await claimed(pages, Delivery(request, deferrals=1), now=LATER)
    assert (copy.request_id, copy.attempt) == (first.request_id, first.attempt)
    assert await pages.complete(first, a_page()) is None
    await pages.abandon(first)
    assert await pages.note_retry(copy, ERROR) is PageStatus.FAILED_RETRYABLE
    assert await pages.complete(first, a_page()) is None


async def test_a_retry_takes_over_what_is_left_of_an_earlier_attempt(pages: Pages) -> None:
    request = a_request()
    await claimed(pages, Delivery(request), now=NOW)
    later = await claimed(pages, Delivery(replace(request, attempt=2)), now=LATER)
    assert later.attempt == 2


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
        record = await pages.find(url)
        assert record is not None
        assert record.metadata is not None
        assert record.metadata.final_url == url


async def test_of_many_requests_for_one_page_at_once_one_has_it(pages: Pages) -> None:
    wishes = [Delivery(a_request()) for _ in range(20)] + [
        Delivery(a_request(url=numbered(number))) for number in range(5)
    ]
    answers = await asyncio.gather(
        *(pages.claim(delivery, now=LATER, lease_seconds=LEASE) for delivery in wishes)
    )
    assert [type(answer) for answer in answers].count(Claim) == 1 + 5
    assert all(isinstance(answer, Claim) for answer in answers[20:])
    assert {answer for answer in answers if isinstance(answer, Coalesced)} == {
        Coalesced("in_progress")
    }


async def test_one_message_delivered_many_times_at_once_has_its_page_once(pages: Pages) -> None:
    delivery = Delivery(a_request())
    answers = await asyncio.gather(
        *(pages.claim(delivery, now=LATER, lease_seconds=LEASE) for _ in range(20))
    )
    assert [type(answer) for answer in answers].count(Claim) == 1


@pytest.mark.parametrize("by", ["another request", "the same message"])
@pytest.mark.parametrize("has_ended", [True, False], ids=["ended since", "at work"])
async def test_a_claim_that_is_void_ends_nothing_among_others_that_hold(
    pages: Pages, by: str, *, has_ended: bool
) -> None:
    request = a_request()
    void = await claimed(pages, Delivery(request), now=NOW)
    same = by == "the same message"
    taking_over = Delivery(request if same else a_request(), redelivered=same)
    holding = await claimed(pages, taking_over, now=MUCH_LATER)
    if has_ended:
        await pages.fail(holding, ERROR)
    good = [await claimed(pages, Delivery(a_request(url=numbered(n)))) for n in range(5)]
    statuses = await asyncio.gather(*(pages.complete(claim, a_page()) for claim in [void, *good]))
    assert statuses == [None] + [PageStatus.COMPLETED] * 5
    wanted = PageStatus.FAILED_PERMANENT if has_ended else PageStatus.IN_PROGRESS
    assert await status_of(pages) is wanted


async def test_a_page_that_cannot_be_stored_does_not_fail_those_beside_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_repository, "LARGE_PAGE_CHARACTERS", 10**9)
    pages = PageRepository(database)
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
    pages = PageRepository(database)
    wishes = [Delivery(a_request(url=numbered(n))) for n in range(5)]
    wishes.insert(3, Delivery(a_request(url=numbered(9), attempt=2**63)))
    answers = await asyncio.gather(
        *(pages.claim(delivery, now=LATER, lease_seconds=LEASE) for delivery in wishes),
        return_exceptions=True,
    )
    assert isinstance(answers.pop(3), NotStorable)
    assert [type(answer) for answer in answers] == [Claim] * 5
