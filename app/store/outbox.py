"""Events of pages as records keep them: the latest of each page, and those yet to be published.

    processing.outcomes[].event   the event of an outcome, written with the outcome
    unpublished                   events that the broker has not taken, for a sweep to publish

Few records have the second field. An index of those finds them, however many records there are.
"""

import inspect
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from loguru import logger
from pydantic import TypeAdapter, ValidationError

from app.models import EventKind, PageEvent, PageRequest, PageStatus
from app.runtime.tracing import traced
from app.store.blocking import in_batches
from app.store.claims import Bson
from app.store.indexes import SOME_UNPUBLISHED, UNPUBLISHED, UNPUBLISHED_INDEX
from app.store.mongo import Database, translated_errors

SWEPT_AT_ONCE = 100
"""The events of how many pages are published side by side."""

_EVENT = TypeAdapter(PageEvent)

READ_AT_ONCE = 100
"""How many records `events_since` reads by one query."""

# The first part names the key of the index, the second the records that it has.
_SOME = {UNPUBLISHED: {"$exists": True}} | SOME_UNPUBLISHED


def event_as_bson(event: PageEvent | None) -> Bson | None:
    """Return what a record has of an event."""
    return _EVENT.dump_python(event) if event else None


class EventOutbox:
    """The events that are yet to be published. Raises `StoreUnavailable` and `NotStorable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @traced("outbox.put_down")
    async def put_down(self, event: PageEvent) -> bool:
        """Keep an event for a sweep, once. Returns False if its page has no record."""
        kept = {"$addToSet": {"unpublished": event_as_bson(event)}}
        with translated_errors():
            result = await self._database.pages.update_one({"url": event.url}, kept)
        return bool(result.matched_count)

    async def unpublished(self) -> AsyncIterator[Sequence[PageEvent]]:
        """Yield the events that are to be published, those of some pages at a time, each once."""
        after: Bson = {}
        while documents := await self._some_unpublished(after):
            yield [
                event
                for document in documents
                for event in _readable(document["unpublished"], document["url"])
            ]
            after = {"_id": {"$gt": documents[-1]["_id"]}}

    @traced("outbox.unpublished")
    async def _some_unpublished(self, after: Bson) -> list[Bson]:
        steps = [
            {"$match": _SOME | after},
            {"$project": {"url": True, "unpublished": True}},
            {"$sort": {"_id": 1}},
            {"$limit": SWEPT_AT_ONCE},
        ]
        with translated_errors():
            cursor = self._database.pages.aggregate(steps, hint=UNPUBLISHED_INDEX)
            if inspect.isawaitable(cursor):  # pymongo's own client; Motor's is none
                cursor = await cursor
            return [document async for document in cursor]

    @traced("outbox.strike_out")
    async def strike_out(self, event: PageEvent) -> None:
        """Note that an event was published."""
        its_record = {UNPUBLISHED: event.event_id} | SOME_UNPUBLISHED
        published = {"$pull": {"unpublished": {"event_id": event.event_id}}}
        with translated_errors():
            await self._database.pages.update_one(its_record, published)


def events_since(pages: Any, since: datetime) -> Iterator[PageEvent]:
    """Yield the events of stored outcomes from a time on, for `pagemeta republish`.

    A record keeps the events of its latest outcomes. Every record is looked at, some at a time, so
    that no query takes long.
    """
    shown = {"url": True, "processing.outcomes.event": True}
    for found in in_batches(pages, shown, READ_AT_ONCE, key="_id"):
        for document in found:
            yield from (it for it in _events_in(document) if it.time >= since)


def _events_in(document: Bson) -> Iterator[PageEvent]:
    """Yield the events that a record keeps; a record of an older version has none."""
    for outcome in document.get("processing", {}).get("outcomes", ()):
        if outcome.get("event") is not None:
            yield from _readable([outcome["event"]], document["url"])


def with_event_of(request: PageRequest) -> Bson:
    """Match the record of a page that keeps an event of this very request."""
    return {"url": request.url, "processing.outcomes.request_id": request.request_id}


def events_of(request: PageRequest, document: Bson | None) -> tuple[PageEvent, ...]:
    """Read the events of the outcomes of a request from the record of its page.

    There are two if a retry was published, its message was not acknowledged, and both were fetched.
    """
    outcomes = document["processing"]["outcomes"] if document else []
    own = [it.get("event") for it in outcomes if it["request_id"] == request.request_id]
    return tuple(_readable((event for event in own if event), request.url))


def _readable(events: Iterable[Bson], url: str) -> Iterator[PageEvent]:
    """Yield the events that this version can read. A newer version may have written others."""
    for event in events:
        try:
            yield _EVENT.validate_python(event)
        except ValidationError as exc:
            logger.error("event_unreadable", url=url, reason=str(exc))


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


def untold() -> Bson:
    """Return the expression for the list of the latest outcome's event, which may not be told yet.

    Its worker may have died, or may just be about to tell it.
    """
    outcomes = {"$ifNull": ["$processing.outcomes", []]}
    latest = {"$let": {"vars": {"it": {"$last": outcomes}}, "in": "$$it.event"}}
    event = {"$ifNull": [latest, None]}
    return {"$cond": [{"$eq": [event, None]}, [], [event]]}
