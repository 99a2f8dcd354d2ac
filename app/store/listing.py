"""Lists records, newest first, some at a time.

Their order is that of `created_at`, which never changes, and then of `_id`. So whoever goes on from
a position sees each record once, whatever is written meanwhile.

A record is as large as its page, and MongoDB reads it whole even if it sends little of it. So
positions are read first, from an index alone where that has all the filter asks for, and records
only for what is shown.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import pymongo
from bson import ObjectId
from loguru import logger
from pydantic import AfterValidator, TypeAdapter
from pymongo.errors import OperationFailure

from app.errors import NotIndexed, UnreadableRecord
from app.models import (
    LISTED_FIELDS,
    SUMMARY_FIELDS,
    Document,
    PageFilter,
    PageList,
    PagePosition,
    PageRecord,
)
from app.runtime.tracing import traced
from app.search import PREFIX_LENGTHS, search_words
from app.store.claims import Bson
from app.store.indexes import missing_indexes
from app.store.mongo import Database, translated_errors
from app.store.records import (
    FIELD_TYPES,
    SOURCE_BYTES,
    field_types,
    record_fields,
    record_of,
    selected,
    whole_metadata_fields,
)

READ_AT_ONCE = 20
"""How many records one query brings."""

MAX_BYTES = 1024 * 1024
"""A list ends after the query with which its records, less their sources, take more than this."""

LONGEST_SECONDS = 2.0
"""How long a list may take the database. Words that many pages have each, and hardly one all of
them, would have it look at all of these pages."""

_NEWEST_FIRST = [("created_at", -1), ("_id", -1)]
_DOCUMENT = field_types(Document)


def _summary(document: Bson | None) -> Bson | None:
    return document and selected(document, _DOCUMENT)


_TYPES = {**FIELD_TYPES, "document": TypeAdapter(Annotated[Any, AfterValidator(_summary)])}
_SUMMARY = {
    "metadata.document": {
        "$cond": [
            {"$eq": [{"$type": "$metadata.document"}, "object"]},
            {name: f"$metadata.document.{name}" for name in SUMMARY_FIELDS},
            None,
        ]
    }
}
"""The projection of a document without the long lists of what the page says."""


class PageLists:
    """Lists the records of the inventory; `patience_seconds` is that of `PageRepository`.

    Every method raises `StoreUnavailable` if the database does not answer in time.
    """

    def __init__(self, database: Database, *, patience_seconds: float) -> None:
        self._database = database
        self._projection = {
            **record_fields(patience_seconds),
            **whole_metadata_fields(LISTED_FIELDS - {"document"}),
            **_SUMMARY,
            "bytes": {"$subtract": [{"$bsonSize": "$$ROOT"}, SOURCE_BYTES]},
        }
        self._is_indexed = False

    @traced("pages.list")
    async def newest(
        self, wanted: PageFilter, limit: int, after: PagePosition | None = None
    ) -> PageList:
        """Return the newest records that pass a filter, beginning after a position.

        There may be fewer than `limit`, and more to come, where they are large. Records that this
        version cannot read are left out, and logged. Raises `NotIndexed`.
        """
        words = search_words(wanted.text)
        if wanted.text.strip() and not words:
            return PageList((), None)  # there are marks alone, and no page is listed under those
        with translated_errors(), pymongo.timeout(LONGEST_SECONDS):
            await self._check_indexes()
            matching = _matching(wanted, words)
            found = await self._positions(matching, limit + 1, after)
            records, last = await self._records(matching, found[:limit])
        has_more = last is not None and last is not found[-1]
        return PageList(tuple(records), _position(last) if last and has_more else None)

    async def _check_indexes(self) -> None:
        if self._is_indexed:
            return
        if missing := missing_indexes(await self._database.pages.index_information()):
            raise NotIndexed(
                "the inventory cannot be listed before `pagemeta migrate` has made the indexes "
                f"{', '.join(missing)}"
            )
        self._is_indexed = True

    async def _positions(
        self, matching: Bson, limit: int, after: PagePosition | None
    ) -> Sequence[Bson]:
        found: list[Bson] = []
        for part in _parts(after):
            cursor = self._database.pages.find(matching | part, {"_id": True, "created_at": True})
            cursor = cursor.sort(_NEWEST_FIRST).limit(limit - len(found))
            found += [document async for document in cursor]
            if len(found) == limit:
                break
        return found

    async def _records(
        self, matching: Bson, found: Sequence[Bson]
    ) -> tuple[list[PageRecord], Bson | None]:
        """Return the records at some positions, and the last of the positions that were read."""
        records: list[PageRecord] = []
        size, last = 0, None
        for start in range(0, len(found), READ_AT_ONCE):
            part = found[start : start + READ_AT_ONCE]
            keys = [it["_id"] for it in part]
            documents = await self._documents(keys, matching)
            records += _readable([documents[key] for key in keys if key in documents])
            last = part[-1]
            size += sum(document["bytes"] for document in documents.values())
            if size > MAX_BYTES:
                break
        return records, last

    async def _documents(self, keys: Sequence[Any], matching: Bson) -> dict[Any, Bson]:
        """Return the records with these keys, less those that the database cannot make sense of."""
        # A record may have changed since, and no longer match.
        wanted = {"$and": [{"_id": {"$in": keys}}, matching]}
        try:
            cursor = self._database.pages.find(wanted, self._projection)
            return {document["_id"]: document async for document in cursor}
        except OperationFailure as exc:
            if exc.timeout:
                raise
            if len(keys) == 1:
                logger.error("record_unreadable", record=str(keys[0]), reason=str(exc)[:300])
                return {}
        each = [await self._documents([key], matching) for key in keys]
        return {key: document for found in each for key, document in found.items()}


def _matching(wanted: PageFilter, words: Sequence[str]) -> Bson:
    conditions: Bson = {"status": {"$in": sorted(wanted.statuses)}}
    if wanted.host is not None:
        conditions["host"] = wanted.host
    if wanted.updated_since is not None:
        conditions["updated_at"] = {"$gte": wanted.updated_since}
    if words:
        conditions["$and"] = [{"search": _begins_with(word)} for word in words]
    return conditions


def _begins_with(word: str) -> str | Bson:
    """Match a term: one that is listed as it is, or one that begins with the word.

    MongoDB reads a regular expression that begins with `^` and fixed text as a range of its index.
    Two bounds would be met by two terms of a record too, one above the lower and one below the
    upper one.
    """
    return word if len(word) in PREFIX_LENGTHS else {"$regex": f"^{re.escape(word)}"}


def _parts(after: PagePosition | None) -> list[Bson]:
    """Return what matches the records after a position: those of the same millisecond, the others.

    An alternative (`$or`) of both could not be answered from an index alone.
    """
    if after is None:
        return [{}]
    same_time = {"created_at": after.created_at, "_id": {"$lt": ObjectId(after.key)}}
    return [same_time, {"created_at": {"$lt": after.created_at}}]


def _position(found: Bson) -> PagePosition:
    return PagePosition(found["created_at"], str(found["_id"]))


def _readable(documents: Sequence[Bson]) -> list[PageRecord]:
    records = []
    for document in documents:
        try:
            records.append(record_of(document, LISTED_FIELDS, _TYPES))
        except UnreadableRecord:  # it has been logged
            continue
    return records
