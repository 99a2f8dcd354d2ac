"""Messages in, one use case called, one acknowledgement out.

Acknowledgement is manual. A message is acknowledged only once its outcome is durable: a result or
a final failure in the database, with its event published or put down, or a retry confirmed by its
queue. A message whose request is answered by a fetch under way is acknowledged too: the record
lists the request as covered, and the message of that fetch stands for both. A message that is no
request is rejected to `metadata.dead` by `rejections.py`.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import RabbitMessage
from loguru import logger

from app.broker.messages import DEFERRALS_HEADER, MetadataRequested
from app.broker.publisher import Retry, RetryPublisher
from app.events import Announcer
from app.models import (
    Coalesced,
    Completed,
    Deferred,
    Delivery,
    FailedPermanently,
    Outcome,
    PageEvent,
    RetryLater,
)
from app.runtime import metrics
from app.services import Collector
from app.worker.held import HeldMessages
from app.worker.slots import Slots

MAX_HOLD_SECONDS = 900
"""How long a message is held while the broker does not take its retry. Then it goes back to its
queue, and the page is fetched again for the same attempt. RabbitMQ closes a channel, with all its
messages, on which one message was not acknowledged for half an hour (`consumer_timeout`)."""

MAX_DEFERRALS = 2**31
"""More than any worker ever counts. A higher or a negative number in the header is ignored."""


class MessageHandler:
    """Handles messages, `concurrency` of them at once.

    `received` counts the messages that came from each queue, by its name.
    """

    def __init__(
        self,
        collector: Collector,
        retries: RetryPublisher,
        announcer: Announcer,
        held: HeldMessages,
        *,
        concurrency: int,
    ) -> None:
        self._collector = collector
        self._retries = retries
        self._announcer = announcer
        self._held = held
        self._slots = Slots(concurrency)
        self.received: Counter[str] = Counter()
        self.stopping = False

    @property
    def is_busy(self) -> bool:
        """Whether messages may well wait in the queue, because this worker has no room for them.

        Either every slot is taken, or retries are not confirmed, so that their messages use up
        the prefetch.
        """
        return self._slots.are_taken or self._held.any

    async def handle(self, body: MetadataRequested, message: RabbitMessage) -> None:
        """Bring one message to its outcome and acknowledge it."""
        queue = message.raw_message.routing_key or ""
        self.received[queue] += 1
        delivery = _delivery(body, message)
        request = delivery.request
        with logger.contextualize(
            request_id=request.request_id, url=request.url, attempt=request.attempt
        ):
            outcome = await self._collect(delivery)
            if outcome is None:
                return
            # The slot is free again: a retry that the broker refuses holds up no other page.
            if await self._is_followed_up(outcome, queue):
                await _acknowledge(message)
            else:
                await _requeue(message)

    async def _collect(self, delivery: Delivery) -> Outcome | None:
        """Return the outcome of one attempt, or None if the worker is stopping.

        A message that still waits for a slot then goes back to its queue with the channel.
        """
        alone = await self._collector.is_suspect(delivery)
        async with self._slots.all() if alone else self._slots.one():
            if self.stopping:
                return None
            logger.info("message_received", redelivered=delivery.redelivered, alone=alone)
            with metrics.PAGES_IN_FLIGHT.track_inprogress():
                return await self._collector.collect(delivery, alone=alone)

    async def _is_followed_up(self, outcome: Outcome, queue: str) -> bool:
        """Publish the retry or the events that an outcome asks for, if any, and log the outcome.

        Return whether that was done. An event may have been put down for later instead.
        """
        retry = _retry(outcome)
        if retry is not None and not await self._is_published(retry, queue):
            return False
        for event in _events(outcome):
            if not await self._announcer.announce(event):
                return False
        metrics.count_outcome(outcome)
        _log(outcome)
        return True

    async def _is_published(self, retry: Retry, queue: str) -> bool:
        """Publish a retry, and hold its message meanwhile. Say whether the broker has confirmed it.

        A retry that the broker refuses is offered again, for up to `MAX_HOLD_SECONDS`.

        If the connection is lost this task is cancelled, and the broker delivers the message again.
        """
        async with self._held.holding(queue):
            if await self._retries.publish(retry):
                return True
            await self._held.make_room(queue)
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_HOLD_SECONDS):
                    await self._retries.publish_in_turn(retry)
                    return True
        return False


def _retry(outcome: Outcome) -> Retry | None:
    match outcome:
        case RetryLater(request=request, delay_seconds=delay_seconds):
            return Retry(request, delay_seconds)
        case Deferred(request=request, delay_seconds=delay_seconds, deferrals=deferrals):
            return Retry(request, delay_seconds, deferrals)
        case _:
            return None


def _events(outcome: Outcome) -> Sequence[PageEvent]:
    match outcome:
        case Completed(event=event) | FailedPermanently(event=event) if event is not None:
            return [event]
        case Coalesced(events=events):
            return events
        case _:
            return []


def _log(outcome: Outcome) -> None:
    match outcome:
        case Completed(status, is_unchanged):
            logger.info("metadata_persisted", unchanged=is_unchanged)
            logger.info("metadata_final_state", status=status)
        case FailedPermanently(error, status):
            logger.warning(
                "metadata_permanent_failure", error_kind=error.kind, reason=error.message
            )
            logger.info("metadata_final_state", status=status)
        case RetryLater(error=error, delay_seconds=delay_seconds):
            logger.warning(
                "metadata_retryable_failure",
                error_kind=error.kind,
                reason=error.message,
                delay_seconds=delay_seconds,
            )
        case Deferred(reason=reason, delay_seconds=delay_seconds):
            logger.warning("request_deferred", reason=reason, delay_seconds=delay_seconds)
        case Coalesced(reason=reason):
            logger.info("request_coalesced", reason=reason)


def _delivery(body: MetadataRequested, message: RabbitMessage) -> Delivery:
    deferrals = message.headers.get(DEFERRALS_HEADER)
    if not (isinstance(deferrals, int) and 0 < deferrals <= MAX_DEFERRALS):
        deferrals = 0
    return Delivery(
        body.to_request(),
        redelivered=bool(message.raw_message.redelivered),
        deferrals=deferrals,
    )


async def _acknowledge(message: RabbitMessage) -> None:
    try:
        await message.ack()
    except CONNECTION_EXCEPTIONS as exc:
        # It will be delivered again, and coalesced: the record knows its request.
        logger.warning("acknowledgement_lost", reason=type(exc).__name__)


async def _requeue(message: RabbitMessage) -> None:
    logger.warning("message_requeued", reason="its retry, or its event, was not taken")
    with suppress(*CONNECTION_EXCEPTIONS):  # without a connection it goes back anyway
        await message.nack(requeue=True)
