"""What is told of a page, and that it is told whatever happens."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from dirty_equals import IsNow, IsPartialDict
from faststream.rabbit.publisher import RabbitPublisher

from app import events
from app.broker import publisher
from app.broker.events import PageEventMessage
from app.broker.publisher import ConfirmedPublisher, EventPublisher
from app.contract.examples import EVENTS
from app.errors import StoreUnavailable
from app.events import Announcer
from app.models import (
    Claim,
    Coalesced,
    Completed,
    Delivery,
    ErrorKind,
    EventKind,
    FailedPermanently,
    NotModified,
    PageError,
    PageEvent,
    PageMetadata,
    PageStatus,
    StoredResult,
)
from app.retries import RetryPolicy
from app.runtime.metrics import REGISTRY
from app.services import Collector, Inventory
from tests.fakes import (
    URL,
    FakeEventPublisher,
    FakeFetcher,
    FakeOutbox,
    FakePages,
    FakePublisher,
    a_page,
    a_request,
    a_timeout,
)
from tests.unit.amqp import (
    TOPOLOGY,
    FakeBroker,
    FakeDestination,
    a_connection,
    queue_full,
    unroutable,
    until,
)
from tests.unit.recorded import Log

ERROR = PageError(ErrorKind.TIMEOUT, "no answer in time")
RESULT = StoredResult(
    final_url="https://example.com/home",
    status_code=200,
    content_type="text/html",
    title="Home",
    body_sha256="a" * 64,
    fetched_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def a_claim(result: StoredResult | None = None) -> Claim:
    return Claim(URL, uuid4(), 2, refreshes=result is not None, token=uuid4(), result=result)


def an_event(number: int = 0) -> PageEvent:
    return replace(EVENTS[0], event_id=UUID(int=number))


# --- What is told ---


def test_a_page_that_was_fetched_is_completed() -> None:
    claim, page = a_claim(), a_page()
    event = events.stored(claim, page)
    assert event == PageEvent(
        event_id=claim.token,
        kind=EventKind.COMPLETED,
        url=URL,
        time=event.time,
        request_id=claim.request_id,
        status=PageStatus.COMPLETED,
        attempts=2,
        final_url=page.final_url,
        status_code=200,
        content_type="text/html",
        title=None,
        body_sha256=page.body_sha256,
        fetched_at=page.fetched_at,
        previous_body_sha256=None,
        checked_at=event.time,
    )
    assert event.time == IsNow(delta=5, tz="UTC")


@pytest.mark.parametrize(
    ("body", "kind"), [("a" * 64, EventKind.UNCHANGED), ("b" * 64, EventKind.COMPLETED)]
)
def test_a_page_is_unchanged_if_its_body_is_the_one_it_had(body: str, kind: EventKind) -> None:
    event = events.stored(a_claim(RESULT), a_page(body_sha256=body))
    assert (event.kind, event.body_sha256, event.previous_body_sha256) == (kind, body, "a" * 64)


def test_a_page_that_its_server_confirms_is_told_with_the_result_it_has() -> None:
    event = events.confirmed(a_claim(RESULT))
    assert (event.kind, event.status) == (EventKind.UNCHANGED, PageStatus.COMPLETED)
    assert event.previous_body_sha256 == event.body_sha256 == RESULT.body_sha256
    assert (event.final_url, event.status_code) == (RESULT.final_url, 200)
    assert (event.title, event.content_type) == ("Home", "text/html")
    assert (event.fetched_at, event.checked_at) == (RESULT.fetched_at, event.time)


def test_a_page_that_failed_is_told_with_its_error_and_its_last_response() -> None:
    event = events.failed(a_claim(), ERROR, a_page(503))
    assert (event.kind, event.status) == (EventKind.FAILED, PageStatus.FAILED_PERMANENT)
    assert (event.error, event.status_code, event.checked_at) == (ERROR, 503, event.time)


def test_a_refresh_that_failed_says_that_the_old_result_was_not_checked() -> None:
    event = events.failed(a_claim(RESULT), ERROR, None)
    assert (event.checked_at, event.previous_body_sha256) == (None, "a" * 64)
    assert (event.body_sha256, event.fetched_at) == (None, None)


def test_times_are_those_that_the_database_keeps() -> None:
    """It keeps milliseconds. So the copy that is read from it is the same as the first one."""
    fetched_at = datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    event = events.stored(a_claim(), a_page(fetched_at=fetched_at))
    assert event.fetched_at == datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    assert event.time.microsecond % 1000 == 0


# --- The message ---


def test_an_event_is_sent_as_a_cloud_event() -> None:
    message = json.loads(PageEventMessage.of(EVENTS[0]).model_dump_json())
    assert message == {
        "specversion": "1.0",
        "id": str(EVENTS[0].event_id),
        "source": "urn:page-metadata",
        "type": "page-metadata.page.completed.v1",
        "subject": "https://example.com/",
        "time": "2026-01-01T00:00:00.250000Z",
        "datacontenttype": "application/json",
        "data": {
            "url": "https://example.com/",
            "request_id": str(EVENTS[0].request_id),
            "status": "COMPLETED",
            "attempts": 1,
            "final_url": "https://example.com/",
            "status_code": 200,
            "content_type": "text/html",
            "title": "Example Domain",
            "body_sha256": EVENTS[0].body_sha256,
            "previous_body_sha256": None,
            "fetched_at": "2026-01-01T00:00:00Z",
            "checked_at": "2026-01-01T00:00:00.250000Z",
            "error": None,
            "href": "/metadata?url=https%3A%2F%2Fexample.com%2F",
        },
    }


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_a_message_fits_its_own_model(event: PageEvent) -> None:
    """Messages are made without a check, which would cost time for each page."""
    message = PageEventMessage.of(event)
    assert PageEventMessage.model_validate_json(message.model_dump_json()) == message


# --- Announcing ---


def counted(outcome: str) -> float:
    name, labels = "page_metadata_events_total", {"kind": "completed", "outcome": outcome}
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_an_event_that_is_published_is_not_put_down() -> None:
    publisher, outbox, before = FakeEventPublisher(), FakeOutbox(), counted("published")
    assert await Announcer(publisher, outbox).announce(an_event())
    assert (publisher.published, outbox.events) == ([an_event()], [])
    assert counted("published") == before + 1


async def test_an_event_that_the_broker_does_not_take_is_put_down(log: Log) -> None:
    publisher, outbox, before = FakeEventPublisher(), FakeOutbox(), counted("put down")
    publisher.refusing = True
    assert await Announcer(publisher, outbox).announce(an_event())
    assert outbox.events == [an_event()]
    assert counted("put down") == before + 1
    assert log.one("event_put_down") == IsPartialDict(kind="completed", level="WARNING")


async def test_an_event_that_nobody_takes_is_not_announced(log: Log) -> None:
    publisher, outbox = FakeEventPublisher(), FakeOutbox()
    publisher.refusing, outbox.failing = True, StoreUnavailable("away")
    assert not await Announcer(publisher, outbox).announce(an_event())
    assert "event_not_kept" in log.events


async def test_an_event_of_a_page_that_is_not_known_cannot_be_put_down(log: Log) -> None:
    publisher, outbox, before = FakeEventPublisher(), FakeOutbox(), counted("put down")
    publisher.refusing, outbox.knows_the_page = True, False
    assert not await Announcer(publisher, outbox).announce(an_event())
    assert counted("put down") == before
    assert [it for it in log.events if it.startswith("event_")] == ["event_not_kept"]


async def test_a_sweep_publishes_what_was_put_down() -> None:
    publisher, outbox = FakeEventPublisher(), FakeOutbox()
    outbox.events = [an_event(number) for number in range(250)]
    assert await Announcer(publisher, outbox).sweep() == 250
    assert [it.event_id.int for it in publisher.published] == list(range(250))
    assert outbox.events == []


async def test_what_the_broker_does_not_take_is_left_for_the_next_sweep() -> None:
    publisher, outbox = FakeEventPublisher(), FakeOutbox()
    outbox.events, publisher.refusing = [an_event()], True
    assert await Announcer(publisher, outbox).sweep() == 0
    assert outbox.events == [an_event()]


async def test_events_of_one_kind_that_are_not_taken_do_not_hold_up_the_others() -> None:
    publisher, outbox = FakeEventPublisher(), FakeOutbox()
    stuck = [replace(EVENTS[2], event_id=UUID(int=number)) for number in range(150)]
    others = [an_event(number) for number in range(200, 350)]
    outbox.events = [event for pair in zip(stuck, others, strict=True) for event in pair]
    publisher.refused = {EventKind.FAILED}
    assert await Announcer(publisher, outbox).sweep() == 150
    assert publisher.published == others
    assert outbox.events == stuck
    assert publisher.tried_in_vain <= 100  # those of the first batch


async def test_sweeping_survives_whatever_a_round_of_it_raises(log: Log) -> None:
    publisher, outbox = FakeEventPublisher(), FakeOutbox()
    outbox.events, outbox.failing = [an_event()], ZeroDivisionError()
    sweeping = asyncio.create_task(Announcer(publisher, outbox).sweep_forever(0.001))
    await until(lambda: "events_not_swept" in log.events)
    outbox.failing = None
    await until(lambda: publisher.published == [an_event()])
    sweeping.cancel()


# --- Publishing ---


class Destinations:
    """An event publisher whose exchange does what a test wants."""

    def __init__(self, publisher: EventPublisher, destination: FakeDestination) -> None:
        destinations: dict[EventKind, RabbitPublisher] = dict.fromkeys(EventKind, destination)
        publisher._destinations = destinations  # noqa: SLF001 (FastStream would make real ones)
        self.publisher, self.destination = publisher, destination


async def destinations(*answers: BaseException | None) -> Destinations:
    connection = a_connection(FakeBroker())
    await connection.open()
    outcomes = iter(answers)

    def answer() -> None:
        if exc := next(outcomes, None):
            raise exc

    sender = ConfirmedPublisher(connection, timeout_seconds=10)
    publisher = EventPublisher(sender, TOPOLOGY, ())
    return Destinations(publisher, FakeDestination(answer))


async def test_an_event_is_published_with_its_ids_and_not_logged(log: Log) -> None:
    to = await destinations()
    logged = list(log.events)
    assert await to.publisher.publish(EVENTS[0])
    (sent,) = to.destination.sent
    assert sent["message_id"] == str(EVENTS[0].event_id)
    assert sent["correlation_id"] == str(EVENTS[0].request_id)
    assert json.loads(sent["body"])["id"] == str(EVENTS[0].event_id)
    assert log.events == logged


async def test_an_event_that_is_not_confirmed_is_not_published(log: Log) -> None:
    to = await destinations(unroutable())
    assert not await to.publisher.publish(EVENTS[0])
    assert log.one("publish_failed") == IsPartialDict(event_id=EVENTS[0].event_id)


async def test_no_other_event_is_tried_until_one_that_is_tried_again_is_taken() -> None:
    to = await destinations(ConnectionResetError())
    assert not await to.publisher.publish(an_event(1))
    assert not await to.publisher.publish(an_event(2))
    assert len(to.destination.sent) == 1
    assert await to.publisher.publish(EVENTS[2])  # of another kind
    assert await to.publisher.publish(an_event(1), again=True)
    assert await to.publisher.publish(an_event(3))
    assert len(to.destination.sent) == 4


async def test_an_event_that_is_not_confirmed_says_nothing_of_the_connection() -> None:
    connection = a_connection(FakeBroker())
    await connection.open()
    publisher = EventPublisher(ConfirmedPublisher(connection, timeout_seconds=0.01), TOPOLOGY, ())
    silent = FakeDestination(asyncio.Event)
    publisher._destinations = dict.fromkeys(EventKind, silent)  # noqa: SLF001
    assert not await publisher.publish(an_event())
    assert connection.is_ready


async def test_an_event_that_a_queue_refuses_is_tried_again_later() -> None:
    """A quorum queue refuses also while it has no leader: the event must not be lost then."""
    to = await destinations(queue_full(), None)
    assert not await to.publisher.publish(an_event(1))
    assert await to.publisher.publish(an_event(2))


async def test_the_full_queue_of_one_listener_does_not_keep_events_from_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every other listener has the event: further copies of it would help none."""
    monkeypatch.setattr(publisher, "FULL_AFTER_SECONDS", -1)
    to = await destinations(queue_full(), queue_full())
    assert await to.publisher.publish(an_event(1))
    assert await to.publisher.publish(an_event(2))


async def test_a_queue_counts_as_full_after_refusals_without_a_long_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that publishes few events does not learn that a queue takes them again."""
    moments = iter((0, 5, 10, 15, 20, 3600))
    monkeypatch.setattr(publisher, "monotonic", lambda: next(moments))
    to = await destinations(*(queue_full() for _ in range(6)))
    counts_as_told = [await to.publisher.publish(an_event()) for _ in range(6)]
    assert counts_as_told == [False, False, False, False, True, False]


async def test_a_queue_that_has_taken_an_event_is_not_full_at_its_next_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to = await destinations(queue_full(), None, queue_full())
    assert not await to.publisher.publish(an_event(1))
    assert await to.publisher.publish(an_event(1))
    monkeypatch.setattr(publisher, "FULL_AFTER_SECONDS", 0.001)
    await asyncio.sleep(0.002)
    assert not await to.publisher.publish(an_event(2))


# --- Which outcomes are told ---


async def collected(
    pages: FakePages, *results: PageMetadata | NotModified | Exception, **delivery: object
) -> object:
    collector = Collector(
        fetcher=FakeFetcher(*results),  # type: ignore[arg-type]  # errors are among them
        pages=pages,
        retries=RetryPolicy(1, (5,)),
        lease_seconds=120,
    )
    request = delivery.pop("request", None) or a_request()
    return await collector.collect(Delivery(request, **delivery))  # type: ignore[arg-type]


async def test_a_result_and_a_failure_come_with_their_events() -> None:
    pages = FakePages()
    outcome = await collected(pages, a_page())
    assert isinstance(outcome, Completed)
    assert outcome.event is not None
    assert outcome.event.kind is EventKind.COMPLETED
    failure = await collected(pages, a_timeout())
    assert isinstance(failure, FailedPermanently)
    assert failure.event is not None
    assert failure.event.kind is EventKind.FAILED


async def test_a_message_that_finds_its_request_answered_brings_the_event_again() -> None:
    """The worker that stored the outcome may have died before it told it."""
    pages, request = FakePages(), a_request()
    outcome = await collected(pages, a_page(), request=request)
    assert isinstance(outcome, Completed)
    again = await collected(pages, request=request, redelivered=True)
    assert outcome.event is not None
    assert again == Coalesced("answered", (outcome.event,))


async def test_a_message_that_another_request_has_answered_brings_no_event() -> None:
    pages, first, second = FakePages(), a_request(), a_request()
    await pages.note_queued(second)
    await collected(pages, a_page(), request=first)
    assert await collected(pages, request=second) == Coalesced("answered", ())


# --- Deletions ---


async def test_a_deletion_is_told() -> None:
    pages, publisher, outbox = FakePages(), FakeEventPublisher(), FakeOutbox()
    inventory = Inventory(
        publisher=FakePublisher(), pages=pages, announcer=Announcer(publisher, outbox)
    )
    await inventory.request(URL)
    outbox.put_down_in(pages)
    await inventory.delete(URL)
    (event,) = publisher.published
    assert (event.kind, event.url) == (EventKind.DELETED, URL)
    assert outbox.events == []


async def test_a_deletion_that_the_broker_does_not_take_is_told_by_a_sweep() -> None:
    pages, publisher, outbox = FakePages(), FakeEventPublisher(), FakeOutbox()
    announcer = Announcer(publisher, outbox)
    inventory = Inventory(publisher=FakePublisher(), pages=pages, announcer=announcer)
    await inventory.request(URL)
    outbox.put_down_in(pages)
    publisher.refusing = True
    await inventory.delete(URL)
    assert await pages.find(URL) is None
    publisher.refusing = False
    assert await announcer.sweep() == 1
    (event,) = publisher.published
    assert event.kind is EventKind.DELETED
