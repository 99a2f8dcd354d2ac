"""Deletions, and events in records: the same scenarios on the fake and on both drivers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dirty_equals import IsNow
from pymongo import MongoClient

from app import events
from app.models import (
    Claim,
    Coalesced,
    Delivery,
    EventKind,
    PageEvent,
    PageRequest,
    PageStatus,
    StoredResult,
)
from app.services import Pages
from app.store.mongo import Database
from app.store.outbox import EventOutbox, events_since
from app.store.pages import PageRepository
from dev.servers import MongoDB
from tests.contract.repositories import ERROR, a_repository, claimed, found, status_of
from tests.fakes import URL, a_page, a_request


async def completed(pages: Pages, request: PageRequest, **changes: str) -> PageEvent:
    claim = await claimed(pages, Delivery(request))
    page = replace(a_page(), **changes)  # type: ignore[arg-type]  # only texts are changed
    event = events.stored(claim, page)
    await pages.complete(claim, page, event)
    return event


async def deleted(pages: Pages) -> PageEvent:
    event = await pages.delete(URL, tells=True)
    assert event is not None
    return event


# --- A page that is deleted ---


async def test_a_deleted_page_is_unknown_at_once(pages: Pages) -> None:
    await completed(pages, a_request())
    await deleted(pages)
    assert await pages.find(URL) is None
    assert await pages.find_with_source(URL) is None


async def test_the_event_of_a_deletion_says_what_was_deleted(pages: Pages) -> None:
    await completed(pages, a_request(), body_sha256="a" * 64)
    event = await deleted(pages)
    assert event == PageEvent(
        event_id=event.event_id,
        kind=EventKind.DELETED,
        url=URL,
        time=event.time,
        request_id=None,
        status=PageStatus.DELETED,
        attempts=0,
        previous_body_sha256="a" * 64,
    )
    assert event.time == IsNow(delta=5, tz="UTC")


async def test_a_page_that_is_not_known_cannot_be_deleted(pages: Pages) -> None:
    assert await pages.delete(URL, tells=True) is None
    assert await pages.find(URL) is None


async def test_a_page_that_is_deleted_is_not_deleted_again(pages: Pages) -> None:
    await completed(pages, a_request())
    await deleted(pages)
    assert await pages.delete(URL, tells=True) is None


async def test_a_deletion_that_nobody_is_told_of_has_no_event(pages: Pages) -> None:
    await completed(pages, a_request())
    assert await pages.delete(URL, tells=False) is None
    assert await pages.find(URL) is None


async def test_a_fetch_under_way_does_not_bring_a_deleted_page_back(pages: Pages) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    await deleted(pages)
    assert await pages.complete(claim, a_page()) is None
    assert await pages.note_retry(claim, ERROR) is None
    assert await pages.fail(claim, ERROR) is None
    await pages.abandon(claim)
    assert await pages.find(URL) is None


@pytest.mark.parametrize("redelivered", [False, True])
async def test_a_message_that_waited_when_its_page_was_deleted_is_not_fetched(
    pages: Pages, *, redelivered: bool
) -> None:
    request = a_request()
    await pages.note_queued(request)
    await deleted(pages)
    answer = await pages.claim(Delivery(request, redelivered=redelivered), lease_seconds=60)
    assert answer == Coalesced("answered")
    assert await pages.find(URL) is None


async def test_a_retry_that_was_to_come_when_its_page_was_deleted_is_not_fetched(
    pages: Pages,
) -> None:
    request = a_request()
    await pages.note_retry(await claimed(pages, Delivery(request)), ERROR)
    await deleted(pages)
    retry = replace(request, attempt=2)
    assert await pages.claim(Delivery(retry), lease_seconds=60) == Coalesced("answered")


async def test_no_request_that_shared_a_fetch_brings_a_deleted_page_back(pages: Pages) -> None:
    requests = [a_request() for _ in range(60)]
    for request in requests:
        await pages.note_queued(request)
    await claimed(pages, Delivery(requests[0]))
    await deleted(pages)
    for request in requests:
        answer = await pages.claim(Delivery(request), lease_seconds=60)
        assert answer == Coalesced("answered")


async def test_a_redelivered_message_of_a_void_fetch_is_not_fetched(pages: Pages) -> None:
    request = a_request()
    await claimed(pages, Delivery(request))
    await deleted(pages)
    again = Delivery(request, redelivered=True)
    assert not await pages.is_suspect(again)
    assert await pages.claim(again, lease_seconds=60) == Coalesced("answered")


async def test_a_late_note_of_a_request_does_not_bring_a_deleted_page_back(pages: Pages) -> None:
    request = a_request()
    await pages.note_queued(request)
    await deleted(pages)
    await pages.note_queued(request)
    assert await pages.find(URL) is None


async def test_a_request_that_was_not_answered_is_told_that_its_page_was_deleted(
    pages: Pages,
) -> None:
    request = a_request()
    await pages.note_queued(request)
    await deleted(pages)
    record = await pages.find_request(request.request_id)
    assert record is not None
    assert record.status == PageStatus.DELETED


# --- Asked for again ---


async def test_a_deleted_page_that_is_posted_again_is_queued_and_fetched(pages: Pages) -> None:
    await completed(pages, a_request())
    await deleted(pages)
    request = a_request()
    await pages.note_queued(request)
    record = await found(pages)
    assert (record.status, record.metadata) == (PageStatus.QUEUED, None)
    assert record.created_at == IsNow(delta=5, tz="UTC")
    event = await completed(pages, request)
    assert event.kind is EventKind.COMPLETED
    assert await status_of(pages) == PageStatus.COMPLETED


async def test_a_message_for_a_deleted_page_is_fetched_if_it_was_accepted_later(
    pages: Pages,
) -> None:
    """Its note may come late, or never if the database was away."""
    await completed(pages, a_request())
    await deleted(pages)
    claim = await claimed(pages, Delivery(a_request()))
    assert (claim.refreshes, claim.result) == (False, None)
    assert await status_of(pages) == PageStatus.IN_PROGRESS


async def test_of_many_readers_of_a_deleted_page_one_reserves_it(pages: Pages) -> None:
    await completed(pages, a_request())
    await deleted(pages)
    assert await pages.reserve(a_request())
    assert not await pages.reserve(a_request())
    assert await status_of(pages) == PageStatus.QUEUED


async def test_a_reserved_page_that_is_released_is_deleted_as_before(pages: Pages) -> None:
    old, new = a_request(), a_request()
    await pages.note_queued(old)
    await deleted(pages)
    await pages.reserve(new)
    await pages.release(new)
    assert await pages.find(URL) is None
    assert await pages.claim(Delivery(old), lease_seconds=60) == Coalesced("answered")
    await claimed(pages, Delivery(a_request()))


async def test_a_page_can_be_deleted_again_after_it_was_asked_for_again(pages: Pages) -> None:
    await completed(pages, a_request())
    first = await deleted(pages)
    await completed(pages, a_request())
    second = await deleted(pages)
    assert first.event_id != second.event_id


# --- Events of outcomes ---


async def test_the_event_of_an_outcome_is_found_by_its_request(pages: Pages) -> None:
    request = a_request()
    event = await completed(pages, request)
    assert await pages.find_events(request) == (event,)


async def test_a_request_that_shared_a_fetch_has_no_event_of_its_own(pages: Pages) -> None:
    first, second = a_request(), a_request()
    await pages.note_queued(second)
    await completed(pages, first)
    assert await pages.find_events(second) == ()


async def test_an_outcome_under_a_void_claim_leaves_no_event(pages: Pages) -> None:
    request = a_request()
    lost = await claimed(pages, Delivery(request))
    taken_over = await claimed(pages, Delivery(request, redelivered=True))
    await pages.complete(lost, a_page(), events.stored(lost, a_page()))
    assert await pages.find_events(request) == ()
    await pages.fail(taken_over, ERROR, None, events.failed(taken_over, ERROR, None))
    (event,) = await pages.find_events(request)
    assert (event.kind, event.event_id) == (EventKind.FAILED, taken_over.token)


async def test_a_request_that_was_fetched_twice_has_both_events(pages: Pages) -> None:
    """Its retry was published, its message was delivered again, and both were fetched."""
    request = a_request()
    first = await completed(pages, request)
    second = await completed(pages, replace(request, attempt=2))
    assert await pages.find_events(request) == (first, second)


async def test_a_later_outcome_leaves_the_event_of_an_earlier_one(pages: Pages) -> None:
    first, second = a_request(), a_request()
    told = await completed(pages, first, body_sha256="a" * 64)
    await completed(pages, second, body_sha256="b" * 64)
    (event,) = await pages.find_events(first)
    assert (event.event_id, event.body_sha256) == (told.event_id, "a" * 64)


async def test_a_refresh_is_told_what_the_page_had_before(pages: Pages) -> None:
    await completed(pages, a_request(), body_sha256="a" * 64)
    claim = await claimed(pages, Delivery(a_request()))
    page = a_page()
    assert claim.result == StoredResult(
        final_url=page.final_url,
        status_code=200,
        content_type="text/html",
        title=None,
        body_sha256="a" * 64,
        fetched_at=page.fetched_at,
    )
    assert events.stored(claim, a_page(body_sha256="a" * 64)).kind is EventKind.UNCHANGED


# --- Events that are to be published ---


@pytest.fixture
async def repository(database: Database) -> PageRepository:
    return a_repository(database)


@pytest.fixture
def outbox(database: Database) -> EventOutbox:
    return EventOutbox(database)


async def unpublished(outbox: EventOutbox) -> list[PageEvent]:
    return [event async for events in outbox.unpublished() for event in events]


async def test_an_event_that_is_put_down_is_found_until_it_is_struck_out(
    repository: PageRepository, outbox: EventOutbox
) -> None:
    event = await completed(repository, a_request())
    assert await outbox.put_down(event)
    assert await outbox.put_down(event)
    (kept,) = await unpublished(outbox)
    assert kept.event_id == event.event_id
    await outbox.strike_out(kept)
    assert await unpublished(outbox) == []


async def test_an_event_of_a_page_without_record_cannot_be_put_down(outbox: EventOutbox) -> None:
    claim = Claim(URL, uuid4(), 1, refreshes=False, token=uuid4())
    assert not await outbox.put_down(events.stored(claim, a_page()))


async def test_the_event_of_a_deletion_is_to_be_published_from_the_moment_of_the_deletion(
    repository: PageRepository, outbox: EventOutbox
) -> None:
    await repository.note_queued(a_request())
    event = await deleted(repository)
    assert await unpublished(outbox) == [event]
    await repository.note_queued(a_request())
    assert await unpublished(outbox) == [event]


async def test_an_outcome_that_nobody_has_told_before_its_page_is_deleted_is_told(
    repository: PageRepository, outbox: EventOutbox
) -> None:
    told = await completed(repository, a_request())
    event = await deleted(repository)
    assert await unpublished(outbox) == [told, event]


async def test_an_event_that_cannot_be_read_is_left_out_and_named(
    repository: PageRepository, outbox: EventOutbox, database: Database
) -> None:
    event = await completed(repository, a_request())
    await outbox.put_down(event)
    newer = {"event_id": uuid4(), "kind": "of a newer version"}
    await database.pages.update_one({"url": URL}, {"$push": {"unpublished": newer}})
    assert await unpublished(outbox) == [event]


async def test_an_event_is_struck_out_wherever_its_record_is(
    repository: PageRepository, outbox: EventOutbox, database: Database
) -> None:
    """`pagemeta migrate` may have moved the record to another spelling of its URL."""
    event = await completed(repository, a_request())
    await outbox.put_down(event)
    await database.pages.update_one({"url": URL}, {"$set": {"url": f"{URL}moved"}})
    await outbox.strike_out(event)
    assert await unpublished(outbox) == []


async def test_events_that_are_to_be_published_are_found_by_an_index(
    repository: PageRepository, outbox: EventOutbox, database: Database
) -> None:
    await outbox.put_down(await completed(repository, a_request()))
    plan = await database.pages.find(
        {"unpublished.event_id": {"$exists": True}, "unpublished.0": {"$exists": True}}
    ).explain()
    assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])


async def test_the_record_of_a_deleted_page_keeps_nothing_of_it(
    repository: PageRepository, database: Database
) -> None:
    request = a_request()
    await completed(repository, request)
    await deleted(repository)
    record: Any = await database.pages.find_one({"url": URL})
    assert record["metadata"] is None
    assert "validators" not in record["processing"]
    assert "checked_at" not in record
    assert [it["status"] for it in record["processing"]["outcomes"]] == ["DELETED"]


async def test_the_record_of_a_deleted_page_goes_by_itself_and_no_other_does(
    database: Database,
) -> None:
    indexes = await database.pages.index_information()
    ttl = indexes["deleted_at_1"]
    assert ttl["expireAfterSeconds"] == 7 * 24 * 3600
    assert dict(ttl["partialFilterExpression"]) == {"status": "DELETED"}


@pytest.mark.servers
async def test_the_events_of_stored_outcomes_are_found_from_a_time_on(
    repository: PageRepository, mongodb: MongoDB, database_name: str
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    first = await completed(repository, a_request("https://example.com/1"))
    second = await completed(repository, a_request("https://example.com/2"))
    with MongoClient[Any](mongodb.url, tz_aware=True, uuidRepresentation="standard") as client:
        collection = client[database_name]["pages"]
        since_before = {event.event_id for event in events_since(collection, before)}
        later = datetime.now(UTC) + timedelta(minutes=1)
        assert since_before == {first.event_id, second.event_id}
        assert list(events_since(collection, later)) == []
