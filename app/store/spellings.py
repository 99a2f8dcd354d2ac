"""Moves records to the canonical spelling of their URLs, where they were kept under another one.

Version 0.1.0 spelled some URLs in another way, so their records are no longer found. Each record is
moved by itself: it is written under the canonical spelling, and then deleted under the old one. To
stop between the two does no harm, since the next run finds both records and merges them again.
Every write names the record as it was read, so it changes nothing if a worker was faster.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pymongo.errors import DuplicateKeyError

from app.errors import InvalidUrl
from app.store.claims import IS_FINISHED, WAITING, Bson
from app.store.merging import merged
from app.urls import canonical_url, host_of

URLS_AT_ONCE = 1000

MAX_TRIES = 3
"""How often a record is read again because somebody else has changed it."""


class Move(StrEnum):
    """What becomes of a record under an old spelling."""

    MOVED = "moved"
    """It is the only record of its page, and gets the canonical spelling."""

    MERGED = "merged"
    """There is a record under the canonical spelling, which takes over what this one has."""

    IN_USE = "in use"
    """A request for one of the records is under way. It is left for a later run."""

    NOT_TAKEN = "not taken"
    """The URL is no longer taken, so nobody can ask for the page. The record stays."""


@dataclass(frozen=True, slots=True)
class Respelling:
    """A record under an old spelling, and the spelling under which it is to be kept."""

    url: str

    canonical: str | None
    """None for a URL that is not taken any more."""


class Spellings:
    """The records that are kept under an old spelling of their URL.

    `patience_seconds`: how long a request may wait for its next attempt. A record with an older
    request counts as one that nobody is at work on.
    """

    def __init__(self, pages: Any, *, patience_seconds: float) -> None:
        self._pages = pages
        self._at_rest = at_rest(patience_seconds)

    def count_records(self) -> int:
        """Return about how many records there are."""
        return int(self._pages.estimated_document_count())

    def outdated(self) -> Iterator[tuple[int, list[Respelling]]]:
        """Return for so many records at a time how many they are, and which are to be moved.

        Only the index of the URLs is read.
        """
        last = ""
        while urls := self._urls_after(last):
            yield len(urls), [it for it in map(_respelling, urls) if it.canonical != it.url]
            last = urls[-1]

    def plan(self, respelling: Respelling) -> Move:
        """Say what `move()` would do."""
        if respelling.canonical is None:
            return Move.NOT_TAKEN
        found = [self._read(respelling.url), self._read(respelling.canonical)]
        if any(it and not it["at_rest"] for it in found):
            return Move.IN_USE
        return Move.MERGED if found[1] else Move.MOVED

    def move(self, respelling: Respelling) -> Move:
        """Move one record, or merge it with the one that its page has already."""
        if respelling.canonical is None:
            return Move.NOT_TAKEN
        for _ in range(MAX_TRIES):
            done = self._try_to_move(respelling.url, respelling.canonical)
            if done:
                return done
        return Move.IN_USE

    def _try_to_move(self, url: str, canonical: str) -> Move | None:
        """Do what `move()` does. Return None if another process was faster."""
        old, target = self._read(url), self._read(canonical)
        if old is None:
            return Move.MOVED
        if not old["at_rest"] or (target and not target["at_rest"]):
            return Move.IN_USE
        written = (
            self._merge(target["record"], old["record"])
            if target
            else self._copy(old["record"], canonical)
        )
        if not written or not self._pages.delete_one(_as_read(old["record"])).deleted_count:
            return None
        return Move.MERGED if target else Move.MOVED

    def _copy(self, record: Bson, canonical: str) -> bool:
        copy = record | {"url": canonical, "host": host_of(canonical)}
        del copy["_id"]
        try:
            self._pages.insert_one(copy)
        except DuplicateKeyError:  # the page was asked for under its canonical spelling just now
            return False
        return True

    def _merge(self, target: Bson, old: Bson) -> bool:
        now = {"updated_at": "$$NOW"}
        result = {"$mergeObjects": [{"$literal": merged(target, old)}, now]}
        written = self._pages.update_one(_as_read(target), [{"$replaceWith": result}])
        return bool(written.modified_count)

    def _read(self, url: str) -> Bson | None:
        shown = {"record": "$$ROOT", "at_rest": self._at_rest}
        found = self._pages.aggregate([{"$match": {"url": url}}, {"$project": shown}])
        return next(iter(found), None)

    def _urls_after(self, last: str) -> list[str]:
        later = self._pages.find({"url": {"$gt": last}}, {"_id": False, "url": True})
        return [it["url"] for it in later.sort("url").limit(URLS_AT_ONCE)]


def at_rest(patience_seconds: float) -> Bson:
    """Return the expression for: nobody is at work on a page, and no message for it is awaited."""
    lease = {"$ifNull": ["$processing.lease_expires_at", None]}
    is_free = {"$or": [{"$eq": [lease, None]}, {"$lt": [lease, "$$NOW"]}]}
    has_ended = {"$and": [IS_FINISHED, {"$eq": [WAITING, []]}]}
    longest_wait = {"$subtract": ["$$NOW", round(patience_seconds * 1000)]}
    was_given_up = {"$lt": ["$updated_at", longest_wait]}
    return {"$and": [is_free, {"$or": [has_ended, was_given_up]}]}


def _respelling(url: str) -> Respelling:
    try:
        return Respelling(url, canonical_url(url))
    except InvalidUrl:
        return Respelling(url, None)


def _as_read(record: Bson) -> Bson:
    """Match a record if nobody has changed it since it was read."""
    return {name: record[name] for name in ("_id", "status", "updated_at", "processing")}
