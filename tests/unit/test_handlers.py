"""Messages in, one acknowledgement out: what is settled, how, and not before what."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from aio_pika.exceptions import ChannelInvalidStateError
from dirty_equals import IsPartialDict, IsStr
from faststream import AckPolicy
from faststream.rabbit import TestRabbitBroker
from faststream.rabbit.subscriber import RabbitSubscriber

from app.broker.connection import make_broker
from app.broker.messages import MetadataRequested
from app.broker.operations import subscribe
from app.broker.publisher import Retry, RetryPublisher
from app.errors import (
    FetchError,
    HostBusy,
    StoreUnavailable,
)
from app.events import Announcer
from app.models import (
    Claim,
    Delivery,
    ErrorKind,
    NotModified,
    PageEvent,
    PageMetadata,
    PageRequest,
    PageStatus,
    Validators,
)
from app.retries import RetryPolicy
from app.services import Collector
from app.worker import handlers
from app.worker.handlers import MessageHandler
from app.worker.held import ExtraConsumers, HeldMessages
from app.worker.rejections import DeadLetterMiddleware, decode
from tests.fakes import (
    URL,
    FakeEventPublisher,
    FakeFetcher,
    FakeOutbox,
    FakePages,
    a_page,
    a_request,
    a_timeout,
)
from tests.unit.amqp import TOPOLOGY, DeliveredMessage, until
from tests.unit.recorded import Log

BLOCKED = FetchError(ErrorKind.BLOCKED_ADDRESS, "not a public address", retryable=False)
POLICY = RetryPolicy(max_attempts=3, delays_seconds=(5, 30, 120))
SLOTS = 3


class GatedFetcher(FakeFetcher):
    """Answers once it is let; counts how many wait at once."""

    def __init__(self, *results: PageMetadata | FetchError) -> None:
        super().__init__(*results)
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.most = 0

    async def fetch(
        self, url: str, validators: Validators | None = None
    ) -> PageMetadata | NotModified:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.gate.wait()
        self.waiting -= 1
        return await super().fetch(url, validators)


class FakeRetries(RetryPublisher):
    """Takes retries once `confirm` is set; while it `refuses`, only those that wait their turn."""

    def __init__(self) -> None:
        self.published: list[Retry] = []
        self.refuses = False
        self.confirm = asyncio.Event()
        self.confirm.set()
        self.offered = 0

    async def publish(self, retry: Retry) -> bool:
        self.offered += 1
        if not self.refuses:
            await self.confirm.wait()
            self.published.append(retry)
        return not self.refuses

    async def publish_in_turn(self, retry: Retry) -> None:
        await self.confirm.wait()
        self.published.append(retry)


class FakeExtraConsumers(ExtraConsumers):
    """Records how many messages of each queue are held whenever that is to be adjusted to."""

    def __init__(self) -> None:
        self.adjusted: list[tuple[str, int]] = []

    async def adjust(self, queue: str, *, held: int) -> None:
        self.adjusted.append((queue, held))


class GatedPages(FakePages):
    """Completes a page once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_writing = False

    async def complete(
        self, claim: Claim, metadata: PageMetadata, event: PageEvent | None = None
    ) -> PageStatus | None:
        self.is_writing = True
        await self.gate.wait()
        return await super().complete(claim, metadata, event)


@dataclass
class Worker:
    """The worker's message side, with stand-ins behind it."""

    fetcher: GatedFetcher
    pages: GatedPages
    retries: FakeRetries
    consumers: FakeExtraConsumers
    events: FakeEventPublisher
    outbox: FakeOutbox
    handler: MessageHandler
    subscribers: dict[str, RabbitSubscriber]

    async def deliver(self, message: DeliveredMessage, queue: str = "metadata.requests") -> None:
        await self.subscribers[queue].consume(message)

    def start(self, *messages: DeliveredMessage) -> list["asyncio.Task[None]"]:
        return [asyncio.create_task(self.deliver(message)) for message in messages]


MakeWorker = Callable[..., Worker]


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    fetcher, pages, retries = GatedFetcher(), GatedPages(), FakeRetries()
    collector = Collector(fetcher=fetcher, pages=pages, retries=POLICY, lease_seconds=120)
    consumers, events, outbox = FakeExtraConsumers(), FakeEventPublisher(), FakeOutbox()
    handler = MessageHandler(
        collector, retries, Announcer(events, outbox), HeldMessages(consumers), concurrency=SLOTS
    )
    broker = make_broker(
        "amqp://nowhere/",
        service_name="worker",
        connect_timeout_seconds=1,
        shutdown_grace_seconds=1,
        middlewares=[DeadLetterMiddleware],
        decoder=decode,
    )
    subscribe(broker, TOPOLOGY, handler.handle, qos=SLOTS)
    subscribers = cast("list[RabbitSubscriber]", broker.subscribers)
    async with TestRabbitBroker(broker):
        by_queue = {it.queue.name: it for it in subscribers}
        yield Worker(fetcher, pages, retries, consumers, events, outbox, handler, by_queue)


def answering(worker: Worker, *results: PageMetadata | FetchError | HostBusy) -> None:
    worker.fetcher._results.extend(results)  # noqa: SLF001 (the fixture has made it already)


def a_body(request: PageRequest | None = None, **changes: Any) -> bytes:
    body = MetadataRequested.from_request(request or a_request()).model_dump(mode="json")
    return json.dumps({**body, **changes}).encode()


def a_message(request: PageRequest | None = None, **options: Any) -> DeliveredMessage:
    return DeliveredMessage(a_body(request), **options)


# --- Outcomes ---


async def test_a_page_that_is_stored_is_acknowledged_once(worker: Worker, log: Log) -> None:
    answering(worker, a_page())
    request = a_request()
    message = a_message(request)
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]
    assert log.events == [
        "message_received",
        "fetch_started",
        "fetch_finished",
        "metadata_persisted",
        "metadata_final_state",
    ]
    for event in log.events:
        assert log.one(event) == IsPartialDict(request_id=request.request_id, url=URL, attempt=1)
    assert log.one("message_received")["redelivered"] is False
    assert log.one("metadata_final_state")["status"] == "COMPLETED"


async def test_a_failure_that_is_final_is_acknowledged_once(worker: Worker, log: Log) -> None:
    answering(worker, BLOCKED)
    message = a_message()
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]
    assert log.events[-2:] == ["metadata_permanent_failure", "metadata_final_state"]
    assert log.one("metadata_permanent_failure") == IsPartialDict(
        level="WARNING", error_kind="blocked_address", reason="not a public address"
    )
    assert log.one("metadata_final_state")["status"] == "FAILED_PERMANENT"
    assert worker.retries.published == []


async def test_a_failure_that_may_pass_is_published_for_later_and_acknowledged_once(
    worker: Worker, log: Log
) -> None:
    answering(worker, a_timeout())
    request = a_request()
    message = a_message(request)
    await worker.deliver(message)
    again = PageRequest(URL, request.request_id, request.requested_at, attempt=2)
    assert worker.retries.published == [Retry(again, 5)]
    assert message.settled == ["acknowledged"]
    assert log.one("metadata_retryable_failure") == IsPartialDict(
        level="WARNING",
        request_id=request.request_id,
        error_kind="timeout",
        reason="no answer in time",
        delay_seconds=5,
    )
    assert "metadata_final_state" not in log.events


@pytest.mark.parametrize("reason", ["in_progress", "answered"])
async def test_a_request_that_another_answers_is_acknowledged_without_a_fetch(
    worker: Worker, log: Log, reason: str
) -> None:
    request = a_request()
    await worker.pages.note_queued(request)
    answering(worker, a_page())
    if reason == "in_progress":
        worker.fetcher.gate.clear()
    first, second = a_message(), a_message(request)
    (running,) = worker.start(first)
    await until(lambda: bool(worker.fetcher.waiting or first.settled))
    await worker.deliver(second)
    assert second.settled == ["acknowledged"]
    assert log.one("request_coalesced")["reason"] == reason
    worker.fetcher.gate.set()
    await running
    assert worker.fetcher.fetched == [URL]


async def test_a_request_made_while_its_page_is_fetched_comes_back_later(
    worker: Worker, log: Log
) -> None:
    answering(worker, a_page())
    worker.fetcher.gate.clear()
    (running,) = worker.start(a_message())
    await until(lambda: worker.fetcher.waiting == 1)
    request = a_request()
    second = a_message(request)
    await worker.deliver(second)
    assert worker.retries.published == [Retry(request, 5, 1)]
    assert second.settled == ["acknowledged"]
    assert log.one("request_deferred")["request_id"] == request.request_id
    worker.fetcher.gate.set()
    await running


async def test_messages_of_both_queues_are_handled(worker: Worker) -> None:
    for number, queue in enumerate(("metadata.requests", "metadata.retries")):
        answering(worker, a_page())
        message = a_message(a_request(f"https://example.com/{number}"))
        await worker.deliver(message, queue)
        assert message.settled == ["acknowledged"]


async def test_a_redelivered_message_takes_its_own_claim_over(worker: Worker, log: Log) -> None:
    request = a_request()
    await worker.pages.claim(Delivery(request), lease_seconds=120)
    answering(worker, a_page())
    message = a_message(request, redelivered=True)
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]
    assert log.one("message_received")["redelivered"] is True
    assert worker.fetcher.fetched == [URL]


async def test_a_body_is_read_whatever_its_content_type_says(worker: Worker) -> None:
    answering(worker, a_page())
    message = a_message(content_type="text/plain")
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]
    assert worker.fetcher.fetched == [URL]


# --- Nothing is acknowledged before its outcome is durable ---


async def test_a_message_is_not_settled_before_its_page_is_stored(worker: Worker) -> None:
    answering(worker, a_page())
    worker.pages.gate.clear()
    message = a_message()
    (handling,) = worker.start(message)
    await until(lambda: worker.pages.is_writing)
    assert message.settled == []
    worker.pages.gate.set()
    await handling
    assert message.settled == ["acknowledged"]


async def test_a_message_is_not_settled_before_its_retry_is_confirmed(
    worker: Worker, log: Log
) -> None:
    answering(worker, a_timeout())
    worker.retries.confirm.clear()
    message = a_message()
    (handling,) = worker.start(message)
    await until(lambda: worker.retries.offered == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert message.settled == []
    assert "metadata_retryable_failure" not in log.events
    worker.retries.confirm.set()
    await handling
    assert message.settled == ["acknowledged"]


async def test_a_message_whose_retry_is_refused_is_held_until_the_retry_is_taken(
    worker: Worker,
) -> None:
    answering(worker, a_timeout(), a_timeout())
    worker.retries.refuses = True
    worker.retries.confirm.clear()
    messages = messages_of_their_own(2)
    holding = worker.start(*messages)
    await until(lambda: len(worker.consumers.adjusted) == 2)
    assert worker.consumers.adjusted == [("metadata.requests", 1), ("metadata.requests", 2)]
    assert [message.settled for message in messages] == [[], []]
    worker.retries.confirm.set()
    await asyncio.gather(*holding)
    assert [message.settled for message in messages] == [["acknowledged"]] * 2
    assert worker.consumers.adjusted[2:] == [("metadata.requests", 0)]
    assert len(worker.retries.published) == len(worker.fetcher.fetched) == 2


async def test_a_message_whose_retry_is_refused_for_long_goes_back_to_its_queue(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(handlers, "MAX_HOLD_SECONDS", 0.01)
    answering(worker, a_timeout())
    worker.retries.refuses = True
    worker.retries.confirm.clear()
    message = a_message()
    await worker.deliver(message)
    assert message.settled == ["nacked multiple=False requeue=True"]
    assert "metadata_retryable_failure" not in log.events
    assert "message_requeued" in log.events


async def test_messages_may_wait_in_the_queue_while_a_retry_is_not_confirmed(
    worker: Worker,
) -> None:
    answering(worker, a_timeout())
    worker.retries.confirm.clear()
    holding = worker.start(a_message())
    await until(lambda: worker.retries.offered == 1)
    assert worker.handler.is_busy
    worker.retries.confirm.set()
    await asyncio.gather(*holding)
    assert not worker.handler.is_busy


async def test_a_message_whose_connection_is_lost_is_left_to_be_delivered_again(
    worker: Worker, log: Log
) -> None:
    answering(worker, a_page())
    worker.fetcher.gate.clear()
    message = a_message()
    (handling,) = worker.start(message)
    await until(lambda: worker.fetcher.waiting == 1)
    handling.cancel()  # as aio-pika does
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert message.settled == []
    assert "message_dead_lettered" not in log.events
    record = await worker.pages.find(URL)
    assert record is not None
    assert (record.attempts, record.lease_expires_at) == (0, None)


async def test_a_lost_acknowledgement_is_logged_and_nothing_more(worker: Worker, log: Log) -> None:
    answering(worker, a_page())
    message = a_message()
    message.settling_fails = ChannelInvalidStateError("closed")
    await worker.deliver(message)
    assert log.events[-1] == "acknowledgement_lost"
    assert log.one("acknowledgement_lost") == IsPartialDict(
        level="WARNING", reason="ChannelInvalidStateError", url=URL
    )
    assert "message_dead_lettered" not in log.events


# --- The database is away ---


@pytest.mark.parametrize(
    ("headers", "deferrals", "delay_seconds"),
    [
        pytest.param({}, 1, 5, id="for the first time"),
        pytest.param({"x-deferrals": 1}, 2, 30, id="again"),
        pytest.param({"x-deferrals": 70}, 71, 30, id="for long, but never for long"),
        pytest.param({"x-deferrals": "many"}, 1, 5, id="with a header that is no number"),
        pytest.param({"x-deferrals": -1000}, 1, 5, id="with a number below zero"),
        pytest.param({"x-deferrals": 2**63 - 1}, 1, 5, id="with the highest number"),
    ],
)
async def test_without_a_database_a_message_comes_back_later_its_attempt_unused(
    worker: Worker, log: Log, headers: dict[str, Any], deferrals: int, delay_seconds: float
) -> None:
    worker.pages.failing = lambda: StoreUnavailable("no server")
    request = a_request(attempt=2)
    message = a_message(request, headers=headers)
    await worker.deliver(message)
    assert worker.retries.published == [Retry(request, delay_seconds, deferrals)]
    assert message.settled == ["acknowledged"]
    assert log.one("request_deferred") == IsPartialDict(
        reason="no server", delay_seconds=delay_seconds, request_id=request.request_id
    )
    assert worker.fetcher.fetched == []


@pytest.mark.parametrize(("deferrals", "delay_seconds"), [(0, 5), (5, 5), (6, 30), (70, 30)])
async def test_a_page_whose_host_is_busy_comes_back_soon_its_attempt_unused(
    worker: Worker, log: Log, deferrals: int, delay_seconds: float
) -> None:
    answering(worker, HostBusy("all 8 connections to a.test are in use"))
    request = a_request(attempt=2)
    message = a_message(request, headers={"x-deferrals": deferrals} if deferrals else {})
    await worker.deliver(message)
    assert worker.retries.published == [Retry(request, delay_seconds, deferrals + 1)]
    assert message.settled == ["acknowledged"]
    assert log.one("request_deferred")["reason"] == "all 8 connections to a.test are in use"

    answering(worker, a_page())
    await worker.deliver(a_message(request, headers={"x-deferrals": deferrals + 1}))
    record = await worker.pages.find(request.url)
    assert record is not None
    assert (record.status, record.attempts) == (PageStatus.COMPLETED, 2)


async def test_a_deferral_is_confirmed_before_its_message_is_settled(worker: Worker) -> None:
    worker.pages.failing = lambda: StoreUnavailable("no server")
    worker.retries.confirm.clear()
    message = a_message()
    (handling,) = worker.start(message)
    await until(lambda: worker.retries.offered == 1)
    assert message.settled == []
    worker.retries.confirm.set()
    await handling
    assert message.settled == ["acknowledged"]


# --- Messages that can't be handled ---

MALFORMED = {
    "empty": (b"", "body: "),
    "not JSON": (b"https://example.com/", "body: "),
    "cut short": (a_body()[:-1], "body: "),
    "not UTF-8": (b'{"url": "\xff"}', "body: "),
    "not an object": (b'["https://example.com/"]', "body: "),
    "null": (b"null", "body: "),
    "nested too deeply": (b"[" * 10_000, "body: "),
    "an empty object": (b"{}", "url: "),
    "a URL that is no text": (a_body(url=7), "url: "),
    "an empty URL": (a_body(url=""), "url: "),
    "a URL that is too long": (a_body(url="x" * 2084), "url: "),
    "an id that is none": (a_body(request_id="seven"), "request_id: "),
    "a time without a zone": (a_body(requested_at="2026-01-01T00:00:00"), "requested_at: "),
    "an attempt before the first": (a_body(attempt=0), "attempt: "),
    "too large": (a_body(padding="x" * 64 * 1024), "65"),
}


@pytest.mark.parametrize(("body", "where"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_message_that_is_no_request_is_dead_lettered(
    worker: Worker, log: Log, body: bytes, where: str
) -> None:
    message = DeliveredMessage(body)
    await worker.deliver(message)
    assert message.settled == ["rejected"]
    assert log.events == ["message_dead_lettered"]
    assert log.one("message_dead_lettered") == IsPartialDict(
        level="ERROR",
        reason=IsStr(regex=rf"malformed: {where}.+"),
        message_id="a-message",
        exception=None,
    )


async def test_the_reason_does_not_repeat_what_a_message_contains(worker: Worker, log: Log) -> None:
    await worker.deliver(DeliveredMessage(a_body(url=["secret"])))
    assert "secret" not in log.one("message_dead_lettered")["reason"]


async def test_an_unforeseen_error_before_the_claim_dead_letters_the_message_with_its_traceback(
    worker: Worker, log: Log
) -> None:
    worker.pages.failing = lambda: ZeroDivisionError("a bug")
    message = a_message()
    await worker.deliver(message)
    assert message.settled == ["rejected"]
    fields = log.one("message_dead_lettered")
    assert fields["reason"] == "unhandled: ZeroDivisionError('a bug')"
    assert isinstance(fields["exception"].value, ZeroDivisionError)


async def test_an_unforeseen_error_of_a_fetch_is_retried_and_never_dead_lettered(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(_url: str) -> PageMetadata:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(worker.fetcher, "fetch", break_down)
    message = a_message()
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]
    assert [retry.request.attempt for retry in worker.retries.published] == [2]
    assert log.one("metadata_retryable_failure")["error_kind"] == "internal"


async def test_a_message_that_can_not_be_handled_gives_its_slot_back(worker: Worker) -> None:
    for _ in range(SLOTS + 1):
        await worker.deliver(DeliveredMessage(b"{}"))
    answering(worker, a_page())
    message = a_message()
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]


async def test_a_lost_rejection_is_logged(worker: Worker, log: Log) -> None:
    message = DeliveredMessage(b"{}")
    message.settling_fails = ChannelInvalidStateError("closed")
    await worker.deliver(message)
    assert log.events == ["message_dead_lettered", "rejection_lost"]
    assert log.one("rejection_lost")["reason"] == "ChannelInvalidStateError"


# --- Slots, and stopping ---


def messages_of_their_own(number: int) -> list[DeliveredMessage]:
    return [a_message(a_request(f"https://example.com/{it}")) for it in range(number)]


async def test_no_more_pages_are_fetched_at_once_than_there_are_slots(worker: Worker) -> None:
    answering(worker, *(a_page() for _ in range(10)))
    worker.fetcher.gate.clear()
    handling = worker.start(*messages_of_their_own(10))
    await until(lambda: worker.handler.received.total() == 10)
    for _ in range(50):
        await asyncio.sleep(0)
    assert worker.fetcher.waiting == SLOTS
    worker.fetcher.gate.set()
    await asyncio.gather(*handling)
    assert len(worker.fetcher.fetched) == 10
    assert worker.fetcher.most == SLOTS


async def test_a_worker_that_stops_finishes_what_it_is_at_and_leaves_what_waits(
    worker: Worker, log: Log
) -> None:
    answering(worker, *(a_page() for _ in range(5)))
    worker.fetcher.gate.clear()
    messages = messages_of_their_own(5)
    handling = worker.start(*messages)
    await until(lambda: worker.handler.received.total() == 5)
    await until(lambda: worker.fetcher.waiting == SLOTS)
    worker.handler.stopping = True
    worker.fetcher.gate.set()
    await asyncio.gather(*handling)
    settled = sorted(message.settled for message in messages)
    assert settled == [[], [], *[["acknowledged"]] * SLOTS]
    assert len(worker.fetcher.fetched) == len(log.all("message_received")) == SLOTS


async def test_what_came_from_each_queue_is_counted(worker: Worker) -> None:
    answering(worker, a_page(), a_page())
    for number in range(2):
        await worker.deliver(a_message(a_request(f"https://example.com/{number}")))
    await worker.deliver(DeliveredMessage(b"{}"))
    assert worker.handler.received == {"metadata.requests": 2}


async def test_a_handler_is_busy_while_every_slot_is_taken(worker: Worker) -> None:
    answering(worker, *(a_page() for _ in range(SLOTS)))
    worker.fetcher.gate.clear()
    handling = []
    for number, message in enumerate(messages_of_their_own(SLOTS), start=1):
        assert not worker.handler.is_busy
        handling += worker.start(message)
        await until(lambda number=number: worker.fetcher.waiting == number)  # type: ignore[misc]  # bound early
    assert worker.handler.is_busy
    worker.fetcher.gate.set()
    await asyncio.gather(*handling)
    assert not worker.handler.is_busy


async def test_subscribers_ack_manually_and_have_a_prefetch(worker: Worker) -> None:
    assert set(worker.subscribers) == {"metadata.requests", "metadata.retries"}
    for subscriber in worker.subscribers.values():
        assert subscriber.ack_policy is AckPolicy.MANUAL
        assert subscriber.channel is not None
        assert subscriber.channel.prefetch_count == SLOTS


async def test_both_queues_are_consumed_on_one_channel(worker: Worker) -> None:
    requests, retries = worker.subscribers.values()
    assert requests.channel is retries.channel


# --- Pages that may have killed their worker ---


async def left_behind(worker: Worker, url: str) -> DeliveredMessage:
    """Return the message of a page whose worker died, as the broker delivers it again."""
    request = a_request(url)
    await worker.pages.claim(Delivery(request), lease_seconds=120)
    return a_message(request, redelivered=True)


async def test_suspect_pages_are_fetched_alone_one_at_a_time(worker: Worker, log: Log) -> None:
    suspects = [await left_behind(worker, f"https://example.com/{it}") for it in range(SLOTS)]
    others = messages_of_their_own(2 * SLOTS)[SLOTS:]
    answering(worker, *(a_page() for _ in range(2 * SLOTS)))
    worker.fetcher.gate.clear()
    handling = worker.start(others[0], *suspects, *others[1:])
    await until(lambda: worker.fetcher.waiting == 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert worker.fetcher.most == 1  # the suspects wait for the page that was there first
    worker.fetcher.gate.set()
    await asyncio.gather(*handling)
    assert len(worker.fetcher.fetched) == 2 * SLOTS
    assert [fields["alone"] for fields in log.all("message_received")].count(True) == SLOTS


async def test_a_refused_retry_holds_up_no_other_page(worker: Worker) -> None:
    answering(worker, *(a_timeout() for _ in range(SLOTS)), a_page())
    worker.retries.confirm.clear()
    stuck = worker.start(*messages_of_their_own(SLOTS))
    await until(lambda: worker.retries.offered == SLOTS)
    message = a_message()
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]
    worker.retries.confirm.set()
    await asyncio.gather(*stuck)


# --- Events ---


async def test_a_message_is_acknowledged_after_its_event_is_published(worker: Worker) -> None:
    answering(worker, a_page())
    message = a_message()
    settled_before: list[list[str]] = []
    publish = worker.events.publish

    async def published(event: PageEvent, *, again: bool = False) -> bool:
        settled_before.append(list(message.settled))
        return await publish(event, again=again)

    worker.events.publish = published  # type: ignore[method-assign]  # to look when it is called
    await worker.deliver(message)
    assert settled_before == [[]]
    assert message.settled == ["acknowledged"]
    assert [event.kind for event in worker.events.published] == ["completed"]


async def test_a_message_whose_event_was_put_down_is_acknowledged(worker: Worker) -> None:
    answering(worker, a_page())
    worker.events.refusing = True
    message = a_message()
    await worker.deliver(message)
    assert message.settled == ["acknowledged"]
    assert [event.kind for event in worker.outbox.events] == ["completed"]


async def test_a_message_whose_event_nobody_takes_goes_back_to_its_queue(
    worker: Worker, log: Log
) -> None:
    answering(worker, a_page())
    worker.events.refusing, worker.outbox.failing = True, StoreUnavailable("away")
    request = a_request()
    message = a_message(request)
    await worker.deliver(message)
    assert message.settled == ["nacked multiple=False requeue=True"]
    assert "message_requeued" in log.events
    worker.events.refusing = False
    again = a_message(request, redelivered=True)
    await worker.deliver(again)
    assert again.settled == ["acknowledged"]
    assert [event.request_id for event in worker.events.published] == [request.request_id]


async def test_a_retry_has_no_event(worker: Worker) -> None:
    answering(worker, a_timeout())
    await worker.deliver(a_message())
    assert worker.events.published == []
