"""Telling others what has happened to a page: at least once, and never before it is stored.

The write that stores an outcome stores its event too. Then the worker publishes the event, and only
then acknowledges the message. Whatever happens in between, the event comes:

- The worker dies: the message is delivered again, finds its request answered, and the event of that
  outcome is published again, with the same id.
- The broker does not take the event, or a queue of a listener refuses it: the event is put down in
  the page's record as unpublished, the message is acknowledged, and a worker's sweep publishes the
  event later. So a listener whose queue holds up the broker holds up no page.
- Neither works: the message goes back to its queue.

There is one exception. A queue that has refused events for more than 15 seconds counts as full: its
listener misses the event, as it would if the queue dropped it.

A deletion has no message that could come again. The write that deletes puts its event down as
unpublished.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from loguru import logger

from app.errors import StoreError
from app.models import (
    Claim,
    EventKind,
    PageError,
    PageEvent,
    PageMetadata,
    PageStatus,
    StoredResult,
)
from app.runtime import metrics
from app.runtime.repeating import repeat

SWEEP_INTERVAL_SECONDS = 5.0
"""How often a worker looks for events that could not be published."""


class EventPublisher(Protocol):
    """Publishes events."""

    async def publish(self, event: PageEvent, *, again: bool = False) -> bool:
        """Say whether every listener has the event, but for those whose queue is full.

        `again`: try even if the broker has not answered to an event of this kind before.
        """


class Outbox(Protocol):
    """Keeps events that are to be published; raises `StoreError`."""

    async def put_down(self, event: PageEvent) -> bool: ...
    def unpublished(self) -> AsyncIterator[Sequence[PageEvent]]: ...
    async def strike_out(self, event: PageEvent) -> None: ...


class Announcer:
    """Publishes the events of pages, or sees to it that they are published later."""

    def __init__(self, publisher: EventPublisher, outbox: Outbox) -> None:
        self._publisher = publisher
        self._outbox = outbox

    async def announce(self, event: PageEvent) -> bool:
        """Publish an event, or put it down for a sweep. Say whether either was done."""
        if await self._publisher.publish(event):
            metrics.EVENTS.labels(event.kind, "published").inc()
            return True
        return await self._put_down(event)

    async def _put_down(self, event: PageEvent) -> bool:
        try:
            is_kept = await self._outbox.put_down(event)
        except StoreError as exc:
            logger.warning("event_not_kept", event_id=event.event_id, reason=str(exc))
            return False
        if not is_kept:
            logger.warning("event_not_kept", event_id=event.event_id, reason="its page is unknown")
            return False
        metrics.EVENTS.labels(event.kind, "put down").inc()
        logger.warning("event_put_down", event_id=event.event_id, kind=event.kind)
        return True

    async def announce_kept(self, event: PageEvent) -> bool:
        """Publish an event that is put down as unpublished, and strike it out.

        Returns whether it was published. If not, or if it cannot be struck out, a later sweep
        publishes it.
        """
        is_taken = await self._publisher.publish(event, again=True)
        if is_taken:
            await self._outbox.strike_out(event)
            metrics.EVENTS.labels(event.kind, "published").inc()
        return is_taken

    async def sweep(self) -> int:
        """Publish what is put down as unpublished, each event once.

        After an event that could not be published, those of its kind are left for the next sweep.
        So a queue of one listener that does not answer holds up no events of other kinds. Returns
        how many events were published. Raises `StoreError`.
        """
        published, refused = 0, set[EventKind]()
        async for events in self._outbox.unpublished():
            tried = [event for event in events if event.kind not in refused]
            taken = await asyncio.gather(*map(self.announce_kept, tried))
            refused |= {event.kind for event, one in zip(tried, taken, strict=True) if not one}
            published += sum(taken)
        return published

    async def sweep_forever(self, interval_seconds: float = SWEEP_INTERVAL_SECONDS) -> None:
        """Sweep at every interval, until cancelled."""
        await repeat(self._try_to_sweep, seconds=interval_seconds, failure="events_not_swept")

    async def _try_to_sweep(self) -> None:
        try:
            published = await self.sweep()
        except StoreError as exc:
            logger.warning("events_not_swept", reason=f"{type(exc).__name__}: {exc}")
            return
        if published:
            logger.info("events_swept", published=published)


# --- What is told ---------------------------------------------------------------------------------


def stored(claim: Claim, metadata: PageMetadata) -> PageEvent:
    """Return the event of a page that was fetched: unchanged if its body is the one it had."""
    kind = EventKind.UNCHANGED if claim.is_unchanged(metadata) else EventKind.COMPLETED
    return _event(claim, kind, PageStatus.COMPLETED, metadata)


def confirmed(claim: Claim) -> PageEvent:
    """Return the event of a page of which its server says that it is still the stored one."""
    return _event(claim, EventKind.UNCHANGED, PageStatus.COMPLETED, claim.result)


def failed(claim: Claim, error: PageError, metadata: PageMetadata | None) -> PageEvent:
    """Return the event of a page that failed for good, with its last response if there was one."""
    return _event(claim, EventKind.FAILED, PageStatus.FAILED_PERMANENT, metadata, error)


def _event(
    claim: Claim,
    kind: EventKind,
    status: PageStatus,
    found: PageMetadata | StoredResult | None,
    error: PageError | None = None,
) -> PageEvent:
    now = _in_milliseconds(datetime.now(UTC))
    keeps_old_result = error is not None and claim.refreshes
    return PageEvent(
        # A claim has one outcome at most. So each copy of its event has the same id.
        event_id=claim.token,
        kind=kind,
        url=claim.url,
        time=now,
        request_id=claim.request_id,
        status=status,
        attempts=claim.attempt,
        final_url=found.final_url if found else None,
        status_code=found.status_code if found else None,
        content_type=found.content_type if found else None,
        title=_title(found),
        body_sha256=found.body_sha256 if found else None,
        fetched_at=_in_milliseconds(found.fetched_at) if found and found.fetched_at else None,
        previous_body_sha256=claim.body_sha256,
        checked_at=None if keeps_old_result else now,
        error=error,
    )


def _title(found: PageMetadata | StoredResult | None) -> str | None:
    if isinstance(found, PageMetadata):
        return found.document.title if found.document else None
    return found.title if found else None


def _in_milliseconds(time: datetime) -> datetime:
    """Return a time as the database keeps it, so that every copy of an event has the same."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
