"""Telling others what has happened to a page: at least once, and never before it is stored.

The write that stores an outcome stores its event too. Then the worker publishes the event, and only
then acknowledges the message. Whatever happens in between, the event comes:

- The worker dies: the message is delivered again, finds its request answered, and the event of that
  outcome is published again, with the same id.
- The broker does not take the event: it is put down in the page's record as unpublished, the
  message is acknowledged, and a worker's sweep publishes the event later. So a listener whose queue
  holds up the broker holds up no page.
- Neither works: the message goes back to its queue.

A deletion has no message that could come again. The write that deletes puts its event down as
unpublished.
"""

import asyncio
from dataclasses import replace
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
)

SWEEP_INTERVAL_SECONDS = 5.0
"""How often a worker looks for events that could not be published."""

SWEEP_AT_ONCE = 100
"""How many pages a sweep reads at once."""


class EventPublisher(Protocol):
    """Publishes events."""

    async def publish(self, event: PageEvent, *, again: bool = False) -> bool:
        """Say whether the broker has taken the event. `again`: try even if it took none before."""


class Outbox(Protocol):
    """Keeps events that are to be published; raises `StoreError`."""

    async def put_down(self, event: PageEvent) -> bool: ...
    async def unpublished(self, at_most: int) -> list[PageEvent]: ...
    async def strike_out(self, event: PageEvent) -> None: ...


class Announcer:
    """Publishes the events of pages, or sees to it that they are published later."""

    def __init__(self, publisher: EventPublisher, outbox: Outbox) -> None:
        self._publisher = publisher
        self._outbox = outbox

    async def announce(self, event: PageEvent) -> bool:
        """Publish an event, or put it down for a sweep. Say whether either was done."""
        return await self._publisher.publish(event) or await self._put_down(event)

    async def _put_down(self, event: PageEvent) -> bool:
        try:
            is_kept = await self._outbox.put_down(event)
        except StoreError as exc:
            logger.warning("event_not_kept", event_id=event.event_id, reason=str(exc))
            return False
        logger.warning("event_put_down", event_id=event.event_id, kind=event.kind)
        return is_kept

    async def announce_kept(self, event: PageEvent) -> None:
        """Publish an event that is put down as unpublished, and strike it out.

        If that fails, a later sweep publishes it: again, if it was published already.
        """
        if await self._publisher.publish(event, again=True):
            await self._outbox.strike_out(event)

    async def sweep(self) -> int:
        """Publish what is put down as unpublished, until the broker takes no more.

        Returns how many events were published. Raises `StoreError`.
        """
        published = 0
        while events := await self._outbox.unpublished(SWEEP_AT_ONCE):
            for event in events:
                if not await self._publisher.publish(event, again=True):
                    return published
                await self._outbox.strike_out(event)
                published += 1
        return published

    async def sweep_forever(self, interval_seconds: float = SWEEP_INTERVAL_SECONDS) -> None:
        """Sweep at every interval, until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                published = await self.sweep()
            except StoreError as exc:
                logger.warning("events_not_swept", reason=str(exc))
            else:
                if published:
                    logger.info("events_swept", published=published)


# --- What is told ---------------------------------------------------------------------------------


def stored(claim: Claim, metadata: PageMetadata) -> PageEvent:
    """Return the event of a page that was fetched: unchanged if its body is the one it had."""
    is_same = metadata.body_sha256 == claim.body_sha256
    kind = EventKind.UNCHANGED if is_same else EventKind.COMPLETED
    event = _event(claim, kind, PageStatus.COMPLETED)
    return replace(_with_response(event, metadata), checked_at=event.time)


def confirmed(claim: Claim) -> PageEvent:
    """Return the event of a page of which its server says that it is still the stored one."""
    event = _event(claim, EventKind.UNCHANGED, PageStatus.COMPLETED)
    if claim.result is None:
        return event
    return replace(
        event,
        final_url=claim.result.final_url,
        status_code=claim.result.status_code,
        content_type=claim.result.content_type,
        title=claim.result.title,
        body_sha256=claim.result.body_sha256,
        fetched_at=claim.result.fetched_at,
        checked_at=event.time,
    )


def failed(claim: Claim, error: PageError, metadata: PageMetadata | None) -> PageEvent:
    """Return the event of a page that failed for good, with its last response if there was one."""
    event = replace(_event(claim, EventKind.FAILED, PageStatus.FAILED_PERMANENT), error=error)
    if not claim.refreshes:
        event = replace(event, checked_at=event.time)
    return _with_response(event, metadata) if metadata else event


def _event(claim: Claim, kind: EventKind, status: PageStatus) -> PageEvent:
    return PageEvent(
        # A claim has one outcome at most. So each copy of its event has the same id.
        event_id=claim.token,
        kind=kind,
        url=claim.url,
        time=_in_milliseconds(datetime.now(UTC)),
        request_id=claim.request_id,
        status=status,
        attempts=claim.attempt,
        previous_body_sha256=claim.body_sha256,
    )


def _with_response(event: PageEvent, metadata: PageMetadata) -> PageEvent:
    return replace(
        event,
        final_url=metadata.final_url,
        status_code=metadata.status_code,
        content_type=metadata.content_type,
        title=metadata.document.title if metadata.document else None,
        body_sha256=metadata.body_sha256,
        fetched_at=_in_milliseconds(metadata.fetched_at),
    )


def _in_milliseconds(time: datetime) -> datetime:
    """Return a time as the database keeps it, so that every copy of an event has the same."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
