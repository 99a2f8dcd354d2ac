"""Moves records to the canonical spelling of their URLs, for `pagemeta migrate`.

Version 0.1.0 spelled some URLs in another way, so callers do not find their records. A record is
moved by writing its URL anew. Where the page has a record under the canonical spelling too, the one
with the newer result stays. It takes over the requests that wait in the other one, which is then
deleted; and if it has the old spelling, it is moved. A run may be stopped between any two of these
writes: the next run finds the records that are left and goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from app.models import PageStatus
from app.store.blocking import in_batches
from app.store.claims import COVERED, IS_HELD, NEXT_REVISION, WAITING, Bson, is_finished
from app.store.indexes import ASKED_AT
from app.urls import canonical_or_none, host_of

BATCH = 1000

_NEVER = datetime.min.replace(tzinfo=UTC)

_FIELDS = {
    "url": True,
    "status": True,
    "unpublished": True,
    "checked_at": True,
    ASKED_AT: True,
    "metadata.fetched_at": True,
    "processing.finished": True,
    "processing.last_request_id": True,
    "processing.revision": True,
    "processing.waiting": True,
    "is_held": IS_HELD,
}


@dataclass(frozen=True, slots=True)
class Misspelled:
    """The URL of a record, and its canonical spelling: another one, or None if it has none."""

    url: str
    canonical: str | None


class Respelling:
    """Finds the records under other spellings and moves them, one by one."""

    def __init__(self, pages: Collection[Bson]) -> None:
        self._pages = pages

    def misspelled(self) -> Iterator[Misspelled]:
        """Yield the records that are to be moved. Reads only the index of the URLs."""
        shown: Bson = {"_id": False, "url": True}
        for found in in_batches(self._pages, shown, BATCH, key="url"):
            for url in (record["url"] for record in found):
                if (canonical := canonical_or_none(url)) != url:
                    yield Misspelled(url, canonical)

    def has_two(self, page: Misspelled) -> bool:
        """Say whether the page has a record under its canonical spelling too."""
        return self._pages.count_documents({"url": page.canonical}, limit=1) > 0

    def move(self, url: str, canonical: str) -> bool:
        """Leave one record of the page, under the canonical spelling.

        False if that has to wait: a worker fetches the page, or a record has changed meanwhile.
        """
        old, new = (self._pages.find_one({"url": each}, _FIELDS) for each in (url, canonical))
        if old is None:
            return True
        if old["is_held"] or (new and new["is_held"]):
            return False
        if new is None:
            return self._respell(old, canonical)
        # What was deleted stays deleted.
        is_deleted = new["status"] == PageStatus.DELETED
        kept, dropped = (new, old) if is_deleted or _worth(old) <= _worth(new) else (old, new)
        return self._merge(kept, dropped) and (kept is new or self._respell(old, canonical))

    def _merge(self, kept: Bson, dropped: Bson) -> bool:
        waiting = {"$setDifference": [{"$setUnion": [WAITING, _open_requests(dropped)]}, _COVERED]}
        processing = {
            "waiting": waiting,
            "waiting_since": {"$ifNull": ["$processing.waiting_since", "$$NOW"]},
            "revision": NEXT_REVISION,
        }
        change: Bson = {
            "processing": {"$mergeObjects": ["$processing", processing]},
            "updated_at": "$$NOW",
            ASKED_AT: {"$max": [f"${ASKED_AT}", dropped.get(ASKED_AT)]},
        }
        if untold := dropped.get("unpublished"):
            kept_ones = {"$ifNull": ["$unpublished", []]}
            change["unpublished"] = {"$concatArrays": [kept_ones, {"$literal": untold}]}
        if not self._pages.update_one(_unchanged(kept), [{"$set": change}]).matched_count:
            return False
        # As the database has just counted it: `_respell()` finds the record by its revision.
        kept["processing"]["revision"] = (kept["processing"].get("revision") or 0) + 1
        return bool(self._pages.delete_one(_unchanged(dropped)).deleted_count)

    def _respell(self, record: Bson, canonical: str) -> bool:
        change = {
            "$set": {"url": canonical, "host": host_of(canonical)},
            "$unset": {"search": True},  # `Unlisted` fills it in again
            "$inc": {"processing.revision": 1},
            "$currentDate": {"updated_at": True},
        }
        try:
            return bool(self._pages.update_one(_unchanged(record), change).matched_count)
        except DuplicateKeyError:  # somebody has asked for the page at this moment
            return False


_COVERED = {"$map": {"input": COVERED, "in": "$$this.request_id"}}


def _unchanged(record: Bson) -> Bson:
    # Records of version 0.1.0 have no revision: null matches them.
    return {"_id": record["_id"], "processing.revision": record["processing"].get("revision")}


def _open_requests(record: Bson) -> list[Any]:
    """Return the requests whose pages are still to be fetched. Their messages wait in a queue."""
    processing = record["processing"]
    current = [] if is_finished(record) else [processing["last_request_id"]]
    return [*processing.get("waiting", []), *current]


def _worth(record: Bson) -> tuple[datetime, bool]:
    """Return what is greater for the record that stays: a newer result, or else open requests."""
    checked_at = None
    if record["status"] == PageStatus.COMPLETED:
        checked_at = record.get("checked_at") or record["metadata"]["fetched_at"]
    return (checked_at or _NEVER, bool(_open_requests(record)))
