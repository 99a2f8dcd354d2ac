"""Messages in, one use case called, one acknowledgement out.

Acknowledgement is manual. A message is acknowledged only once its outcome is durable: a result or
a final failure in the database, a retry confirmed by its queue. A message that is no request is
rejected to `metadata.dead` by `rejections.py`.
"""

import asyncio
from collections import Counter
from itertools import count

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import RabbitMessage
from loguru import logger

from app.broker.messages import DEFERRALS_HEADER, MetadataRequested
from app.broker.publisher import RetryPublisher
from app.errors import PublishError
from app.models import (
    Coalesced,
    Completed,
    Delivery,
    FailedPermanently,
    Outcome,
    PageRequest,
    PutOff,
    RetryLater,
)
from app.retries import Backoff
from app.runtime import metrics
from app.services import Collector
from app.worker.slots import Slots

REFUSED_RETRY = Backoff(initial=0.5, maximum=10, multiplier=2, attempts=1)
"""How long to wait before a retry that the broker has not taken is offered to it again."""


class MessageHandler:
    """Handles messages, `concurrency` of them at once.

    `received` counts the messages that came from each queue, by its name.
    """

    def __init__(self, collector: Collector, retries: RetryPublisher, *, concurrency: int) -> None:
        self._collector = collector
        self._retries = retries
        self._slots = Slots(concurrency)
        self.received: Counter[str] = Counter()
        self.stopping = False

    @property
    def is_busy(self) -> bool:
        """Whether every slot is taken."""
        return self._slots.are_taken

    async def handle(self, body: MetadataRequested, message: RabbitMessage) -> None:
        """Bring one message to its outcome and acknowledge it."""
        self.received[message.raw_message.routing_key or ""] += 1
        delivery = _delivery(body, message)
        request = delivery.request
        with logger.contextualize(
            request_id=request.request_id, url=request.url, attempt=request.attempt
        ):
            outcome = await self._collect(delivery)
            if outcome is not None:
                # The slot is free again: a retry that the broker refuses holds up no other page.
                await self._follow_up(outcome)
                await _acknowledge(message)

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

    async def _follow_up(self, outcome: Outcome) -> None:
        """Publish what the outcome asks for, and log it."""
        metrics.count_outcome(outcome)
        match outcome:
            case Completed(status):
                logger.info("metadata_persisted")
                logger.info("metadata_final_state", status=status)
            case FailedPermanently(error, status):
                logger.warning(
                    "metadata_permanent_failure", error_kind=error.kind, reason=error.message
                )
                logger.info("metadata_final_state", status=status)
            case RetryLater(request, error, delay_seconds):
                await self._publish_retry(request, delay_seconds)
                logger.warning(
                    "metadata_retryable_failure",
                    error_kind=error.kind,
                    reason=error.message,
                    delay_seconds=delay_seconds,
                )
            case PutOff(request, reason, delay_seconds, deferrals):
                await self._publish_retry(request, delay_seconds, deferrals)
                logger.warning("request_deferred", reason=reason, delay_seconds=delay_seconds)
            case Coalesced(reason):
                logger.info("request_coalesced", reason=reason)

    async def _publish_retry(
        self, request: PageRequest, delay_seconds: float, deferrals: int = 0
    ) -> None:
        """Publish a retry, however often the broker refuses it.

        Until then the message is not acknowledged. If the connection is lost this task is
        cancelled, and the broker delivers the message again.
        """
        for attempt in count(1):
            try:
                await self._retries.publish(
                    request, delay_seconds=delay_seconds, deferrals=deferrals
                )
            except PublishError:
                await asyncio.sleep(REFUSED_RETRY.delay(attempt))
            else:
                return


def _delivery(body: MetadataRequested, message: RabbitMessage) -> Delivery:
    deferrals = message.headers.get(DEFERRALS_HEADER, 0)
    return Delivery(
        body.to_request(),
        redelivered=bool(message.raw_message.redelivered),
        deferrals=deferrals if isinstance(deferrals, int) else 0,
    )


async def _acknowledge(message: RabbitMessage) -> None:
    try:
        await message.ack()
    except CONNECTION_EXCEPTIONS as exc:
        # It will be delivered again, and coalesced: its outcome is durable.
        logger.warning("acknowledgement_lost", reason=type(exc).__name__)
