"""Messages in, one use case called, one acknowledgement out.

Acknowledgement is manual. A message is settled only once its outcome is durable: a result or a
final failure in the database, a retry confirmed by its queue, a dead letter in `metadata.dead`.
"""

import asyncio
from collections import Counter
from itertools import count

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import RabbitMessage
from loguru import logger

from app.broker.messages import DEFERRALS_HEADER, MetadataRequested
from app.broker.publisher import RetryPublisher
from app.errors import HostBusy, PublishError, StoreUnavailable
from app.models import (
    Coalesced,
    Completed,
    Delivery,
    FailedPermanently,
    Outcome,
    PageRequest,
    RetryLater,
)
from app.retries import Backoff, RetryPolicy
from app.runtime import metrics
from app.services import Collector

REFUSED_RETRY = Backoff(initial=0.5, maximum=10, multiplier=2, attempts=1)
"""How long to wait before a retry that the broker has not taken is offered to it again."""

LONGEST_WITHOUT_DATABASE = 2
"""Which retry delay is the longest for a message that was put off while the database is away:
work is to go on soon after it is back."""

LONGEST_AT_BUSY_HOST = 1
"""The same for a page whose host had no place for it: that host is not to wait for us."""


class MessageHandler:
    """Handles one message at a time in each of `concurrency` slots.

    `received` counts the messages that came from each queue, by its name.
    """

    def __init__(
        self,
        collector: Collector,
        retries: RetryPublisher,
        *,
        policy: RetryPolicy,
        concurrency: int,
    ) -> None:
        self._collector = collector
        self._retries = retries
        self._policy = policy
        self._slots = asyncio.Semaphore(concurrency)
        self.received: Counter[str] = Counter()
        self.stopping = False

    @property
    def is_busy(self) -> bool:
        """Whether every slot is taken."""
        return self._slots.locked()

    async def handle(self, body: MetadataRequested, message: RabbitMessage) -> None:
        """Bring one message to its outcome and settle it."""
        self.received[message.raw_message.routing_key or ""] += 1
        delivery = _delivery(body, message)
        request = delivery.request
        with logger.contextualize(
            request_id=request.request_id, url=request.url, attempt=request.attempt
        ):
            async with self._slots:
                # What still waits for a slot goes back to the queue with the channel.
                if not self.stopping:
                    await self._handle(delivery, message)

    @metrics.counted_in_flight
    async def _handle(self, delivery: Delivery, message: RabbitMessage) -> None:
        logger.info("message_received", redelivered=delivery.redelivered)
        try:
            outcome = await self._collector.collect(delivery)
        except StoreUnavailable as exc:
            await self._put_off(delivery, exc, longest=LONGEST_WITHOUT_DATABASE)
        except HostBusy as exc:
            await self._put_off(delivery, exc, longest=LONGEST_AT_BUSY_HOST)
        else:
            await self._follow_up(outcome)
        await _acknowledge(message)

    async def _follow_up(self, outcome: Outcome) -> None:
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
                await self._retry(request, delay_seconds)
                logger.warning(
                    "metadata_retryable_failure",
                    error_kind=error.kind,
                    reason=error.message,
                    delay_seconds=delay_seconds,
                )
            case Coalesced(reason):
                logger.info("request_coalesced", reason=reason)

    async def _put_off(self, delivery: Delivery, why: Exception, *, longest: int) -> None:
        """Have the message come back later, its attempt unused."""
        deferrals = delivery.deferrals + 1
        delay_seconds = self._policy.delay_after(min(deferrals, longest))
        await self._retry(delivery.request, delay_seconds, deferrals)
        metrics.DEFERRED.inc()
        logger.warning("request_deferred", reason=str(why), delay_seconds=delay_seconds)

    async def _retry(self, request: PageRequest, delay_seconds: float, deferrals: int = 0) -> None:
        """Publish a retry, however often the broker refuses it.

        Until then the message is held. If the connection is lost this task is cancelled, and
        the broker delivers the message again.
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
