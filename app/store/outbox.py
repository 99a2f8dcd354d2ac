"""Events of pages as records keep them: the latest of each page, and those yet to be published.

    processing.outcomes[].event   the event of an outcome, written with the outcome
    unpublished                   events that the broker has not taken, for a sweep to publish

Few records have the second field. An index of those finds them, however many records there are.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from app.models import EventKind, PageEvent, PageRequest, PageStatus
from app.runtime.tracing import TRACER
from app.store.claims import Bson
from app.store.mongo import SOME_UNPUBLISHED, Database, translated_errors

_EVENT = TypeAdapter(PageEvent)

READ_AT_ONCE = 100
"""How many records `events_since` reads by one query."""

# The first part names the key of the index, the second the records that it has.
_SOME = {"unpublished.event_id": {"$exists": True}} | SOME_UNPUBLISHED


def event_as_bson(event: PageEvent | None) -> Bson | None:
    """Return what a record has of an event."""
    return _EVENT.dump_python(event) if event else None


class EventOutbox:
    """The events that are yet to be published. Raises `StoreUnavailable` and `NotStorable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @TRACER.start_as_current_span("outbox.put_down")
    async def put_down(self, event: PageEvent) -> bool:
        """Keep an event for a sweep, once. Returns False if its page has no record."""
        kept = {"$addToSet": {"unpublished": event_as_bson(event)}}
        with translated_errors():
            result = await self._database.pages.update_one({"url": event.url}, kept)
        return bool(result.matched_count)

    @TRACER.start_as_current_span("outbox.unpublished")
    async def unpublished(self, at_most: int) -> list[PageEvent]:
        """Return events that are to be published, of so many pages."""
        with translated_errors():
            cursor = self._database.pages.find(_SOME, {"unpublished": True})
            return [
                _EVENT.validate_python(event)
                async for document in cursor.limit(at_most)
                for event in document["unpublished"]
            ]

    @TRACER.start_as_current_span("outbox.strike_out")
    async def strike_out(self, event: PageEvent) -> None:
        """Note that an event was published."""
        published = {"$pull": {"unpublished": {"event_id": event.event_id}}}
        with translated_errors():
            await self._database.pages.update_one({"url": event.url}, published)


def events_since(pages: Any, since: datetime) -> Iterator[PageEvent]:
    """Yield the events of stored outcomes from a time on, for `pagemeta republish`.

    A record keeps the events of its latest outcomes. Every record is looked at, some at a time, so
    that no query takes long.
    """
    after: Bson = {}
    shown = {"processing.outcomes.event": True}
    while found := list(pages.find(after, shown).sort("_id").limit(READ_AT_ONCE)):
        for document in found:
            yield from (it for it in _events_in(document) if it.time >= since)
        after = {"_id": {"$gt": found[-1]["_id"]}}


def _events_in(document: Bson) -> Iterator[PageEvent]:
    """Yield the events that a record keeps; a record of an older version has none."""
    for outcome in document.get("processing", {}).get("outcomes", ()):
        if outcome.get("event") is not None:
            yield _EVENT.validate_python(outcome["event"])


def with_event_of(request: PageRequest) -> Bson:
    """Match the record of a page that keeps an event of this very request."""
    return {"url": request.url, "processing.outcomes.request_id": request.request_id}


def event_of(request: PageRequest, document: Bson | None) -> PageEvent | None:
    """Read the event of the latest outcome of a request from the record of its page."""
    outcomes = document["processing"]["outcomes"] if document else []
    events = [it.get("event") for it in outcomes if it["request_id"] == request.request_id]
    return _EVENT.validate_python(events[-1]) if events and events[-1] else None


def last_unpublished(document: Bson) -> PageEvent:
    """Return the event that was put down last in the record of a page."""
    return _EVENT.validate_python(document["unpublished"][-1])


def deletion(event_id: UUID) -> Bson:
    """Return the expression for the event of a deletion, of the record that is deleted."""
    return {
        "event_id": event_id,
        "kind": EventKind.DELETED,
        "url": "$url",
        "time": "$$NOW",
        "request_id": None,
        "status": PageStatus.DELETED,
        "attempts": 0,
        "previous_body_sha256": {"$ifNull": ["$metadata.body_sha256", None]},
    }
