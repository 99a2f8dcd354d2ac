"""The repository of page records: an intent comes in, an atomic operation goes out.

Which delivery may fetch a page is decided in `claims.py`. All times of a record are the
database's own (`$$NOW`, `$currentDate`), whichever machine wrote it.
"""

from collections.abc import Collection, Sequence
from typing import Any, get_type_hints
from uuid import UUID

from loguru import logger
from pydantic import TypeAdapter, ValidationError
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError

from app.errors import UnreadableRecord
from app.models import (
    METADATA_FIELDS,
    Awaited,
    Busy,
    Claim,
    Coalesced,
    Delivery,
    PageError,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
)
from app.runtime.tracing import TRACER
from app.store import awaited
from app.store.batching import Batcher
from app.store.claims import (
    COVERED,
    MAX_WAITING,
    WAITING,
    AttemptResult,
    ClaimRequest,
    Claims,
    Document,
    held,
    is_covered,
    released,
)
from app.store.mongo import Database, had_duplicates, translated_errors
from app.urls import host_of

LARGE_PAGE_CHARACTERS = 262_144
"""A page above this is written on its own, so that no bulk grows out of proportion."""

MAX_INLINE_SOURCE_BYTES = 65_536
"""A page source above this is left out of records that are read, many of them together, until it
is asked for by itself."""

Fields = frozenset[str]
"""Names of fields of the metadata."""

_METADATA = TypeAdapter(PageMetadata)
_METADATA_FIELDS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(kind) for name, kind in get_type_hints(PageMetadata).items()
}
_ERROR = TypeAdapter(PageError)

_SHOWN_PROCESSING = (
    *("attempts", "last_request_id", "lease_expires_at", "last_error", "ended_claim"),
)

_MAY_STALL = [PageStatus.QUEUED, PageStatus.IN_PROGRESS, PageStatus.FAILED_RETRYABLE]


class PageRepository:
    """Page records in MongoDB; one for each URL.

    `patience_seconds`: how long a request may wait for its next attempt before its page counts
    as stalled. Every method raises `StoreUnavailable` if the database does not answer in time;
    those that take a page's data raise `NotStorable` if it can never be kept.
    """

    def __init__(self, database: Database, *, patience_seconds: float) -> None:
        self._database = database
        self._fields = _record_fields(patience_seconds)
        timeout = database.timeout_seconds
        self._find: Batcher[tuple[str, Fields], Document | None]
        self._find = Batcher(self._find_all, timeout_seconds=timeout)
        self._note_queued = Batcher(self._note_all_queued, timeout_seconds=timeout)
        self._claims = Claims(database)

    @TRACER.start_as_current_span("pages.find")
    async def find(self, url: str, fields: Fields = METADATA_FIELDS) -> PageRecord | None:
        """Return the record of a page, if there is one, without its source if that is large.

        Of the metadata only the `fields` are read. Raises `UnreadableRecord`.
        """
        with translated_errors():
            document = await self._find((url, fields))
        return _record(document, fields) if document else None

    @TRACER.start_as_current_span("pages.find_with_source")
    async def find_with_source(
        self, url: str, fields: Fields = METADATA_FIELDS
    ) -> PageRecord | None:
        """Return the record of a page, if there is one, with its source however large it is.

        Takes up to seven times the size of the source in memory. Of the metadata only the `fields`
        are read. Raises `UnreadableRecord`.
        """
        projection = self._fields | _whole_metadata_fields(fields)
        with translated_errors():
            document = await self._database.pages.find_one({"url": url}, projection)
        return _record(document, fields) if document else None

    @TRACER.start_as_current_span("pages.answered")
    async def answered(self, waits: Collection[Awaited]) -> set[Awaited]:
        """Return those of many waits that are over, with one query of a few bytes for each page."""
        with translated_errors():
            return await awaited.answered(self._database.pages, waits)

    @TRACER.start_as_current_span("pages.note_queued")
    async def note_queued(self, request: PageRequest) -> None:
        """List a published request as waiting for a fetch.

        Inserts a QUEUED record if there is none, and makes one that has failed QUEUED again.
        Changes nothing if a worker has handled the request already.
        """
        with translated_errors():
            await self._note_queued(request)

    @TRACER.start_as_current_span("pages.reserve")
    async def reserve(self, request: PageRequest) -> bool:
        """Insert a QUEUED record; False if there is a record already. One caller wins."""
        insert = {name: _unless_present(name, value) for name, value in _queued(request).items()}
        with translated_errors():
            try:
                before = await self._database.pages.find_one_and_update(
                    {"url": request.url},
                    [{"$set": insert}],
                    projection={"_id": True},
                    upsert=True,
                    return_document=ReturnDocument.BEFORE,
                )
            except DuplicateKeyError:  # another process inserted it at the same moment
                return False
        return before is None

    @TRACER.start_as_current_span("pages.reserve_again")
    async def reserve_again(self, request: PageRequest, stalled: PageRecord) -> bool:
        """Make a stalled record QUEUED for another request. One caller wins."""
        unchanged = {
            "url": stalled.url,
            "status": stalled.status,
            "updated_at": stalled.updated_at,
            "processing.attempts": stalled.attempts,
            "processing.last_request_id": stalled.request_id,
        }
        queued = {
            "status": PageStatus.QUEUED,
            "processing": {"$mergeObjects": ["$processing", _unclaimed(request.request_id)]},
            "updated_at": "$$NOW",
        }
        with translated_errors():
            result = await self._database.pages.update_one(unchanged, [{"$set": queued}])
        return bool(result.modified_count)

    @TRACER.start_as_current_span("pages.release")
    async def release(self, request: PageRequest) -> None:
        """Take back what `reserve()` inserted, if nothing has happened to it since."""
        with translated_errors():
            await self._database.pages.delete_one(_reserved(request))

    @TRACER.start_as_current_span("pages.restore")
    async def restore(self, stalled: PageRecord, request: PageRequest) -> None:
        """Make a record stalled again as before `reserve_again()`, if it has not changed since."""
        as_it_was = {
            "status": stalled.status,
            "processing.attempts": stalled.attempts,
            "processing.last_request_id": stalled.request_id,
            "processing.lease_expires_at": stalled.lease_expires_at,
            "processing.last_error": stalled.error and _ERROR.dump_python(stalled.error),
            "updated_at": stalled.updated_at,
        }
        with translated_errors():
            await self._database.pages.update_one(_reserved(request), {"$set": as_it_was})

    async def is_suspect(self, delivery: Delivery) -> bool:
        """Say whether a worker died while it fetched the page for this very request."""
        signs: list[Document] = [{"processing.suspect": True}]
        if delivery.redelivered:
            signs.append({"processing.claim": {"$ne": None}})
        request = delivery.request
        found = {
            "url": request.url,
            "processing.last_request_id": request.request_id,
            "processing.finished": False,
            "$or": signs,
        }
        with translated_errors():
            return bool(await self._database.pages.find_one(found, projection={"_id": True}))

    @TRACER.start_as_current_span("pages.claim")
    async def claim(
        self, delivery: Delivery, *, lease_seconds: float, alone: bool = False
    ) -> Claim | Coalesced | Busy:
        """Take a page for one attempt and count it, or say why it is not to be fetched.

        A redelivered or put-off message takes over the claim of its own request at once: the
        worker that held it is gone, or has given the message back. `alone` is to be set if the
        worker fetches no other page meanwhile.
        """
        with translated_errors():
            return await self._claims.claim(ClaimRequest(delivery, lease_seconds, alone))

    @TRACER.start_as_current_span("pages.complete")
    async def complete(self, claim: Claim, metadata: PageMetadata) -> PageStatus | None:
        """Keep the result of a claimed page.

        Returns the status as the database has it now, None if the claim is void.
        """
        return await self._end_attempt(
            claim,
            {
                "status": PageStatus.COMPLETED,
                "metadata": _METADATA.dump_python(metadata),
                "processing.last_error": None,
            },
            finishes=True,
        )

    @TRACER.start_as_current_span("pages.fail")
    async def fail(
        self, claim: Claim, error: PageError, metadata: PageMetadata | None = None
    ) -> PageStatus | None:
        """Keep a failure that is final, with the last response if there was one.

        Returns as `complete()` does. A failed refresh leaves the result it has in place.
        """
        result = {"metadata": metadata and _METADATA.dump_python(metadata)}
        return await self._end_attempt(
            claim,
            _failed(claim, PageStatus.FAILED_PERMANENT, error)
            | ({} if claim.refreshes else result),
            finishes=True,
        )

    @TRACER.start_as_current_span("pages.note_retry")
    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None:
        """Keep a failure that will be tried again. Returns as `complete()` does."""
        changes = _failed(claim, PageStatus.FAILED_RETRYABLE, error)
        return await self._end_attempt(claim, changes, finishes=False)

    @TRACER.start_as_current_span("pages.abandon")
    async def abandon(self, claim: Claim) -> None:
        """Give a claim up without having made its attempt, which then does not count."""
        uncounted = {"processing.attempts": claim.attempt - 1}
        with translated_errors():
            await self._database.pages.update_one(
                held(claim), released(claim, finishes=False, fields=uncounted)
            )

    async def _find_all(self, wanted: Sequence[tuple[str, Fields]]) -> list[Document | None]:
        urls_by_fields: dict[Fields, set[str]] = {}
        for url, fields in wanted:
            urls_by_fields.setdefault(fields, set()).add(url)
        documents = {
            (document["url"], fields): document
            for fields, urls in urls_by_fields.items()
            async for document in self._find_some(urls, fields)
        }
        return [documents.get(each) for each in wanted]

    def _find_some(self, urls: set[str], fields: Fields) -> Any:
        projection = self._fields | _metadata_fields(fields)
        return self._database.pages.find({"url": {"$in": list(urls)}}, projection)

    async def _note_all_queued(self, requests: Sequence[PageRequest]) -> list[None]:
        notes = [_note(request) for request in requests]
        # A page that a worker inserts at the same moment gives a duplicate key. Its record is
        # found by the second try.
        for _ in range(2):
            if not await had_duplicates(self._database.pages.bulk_write(notes, ordered=False)):
                break
        return [None] * len(requests)

    async def _end_attempt(
        self, claim: Claim, changes: Document, *, finishes: bool
    ) -> PageStatus | None:
        page_source = (changes.get("metadata") or {}).get("page_source") or ""
        with translated_errors():
            return await self._claims.end(
                AttemptResult(claim, changes, finishes),
                is_large=len(page_source) > LARGE_PAGE_CHARACTERS,
            )


def _note(request: PageRequest) -> UpdateOne:
    """Return the upsert of `note_queued()`.

    Whether a worker has handled the request is read from the record's list of covered requests,
    not from times: those of the API and the database may differ.
    """
    handled = is_covered(request.request_id)
    has_failed = {"$eq": ["$status", PageStatus.FAILED_PERMANENT]}
    queues = {"$and": [{"$not": [handled]}, {"$or": [_is_missing("status"), has_failed]}]}
    is_listed = {
        "$or": [
            handled,
            {"$in": [request.request_id, WAITING]},
            {"$gte": [{"$size": WAITING}, MAX_WAITING]},
        ]
    }
    listed = {"$concatArrays": [WAITING, [request.request_id]]}
    now_queued = {"$cond": [queues, _unclaimed(request.request_id), {}]}
    waiting = {"waiting": {"$cond": [is_listed, WAITING, listed]}, "covered": COVERED}
    update = {
        "status": {"$cond": [queues, PageStatus.QUEUED, "$status"]},
        "host": {"$ifNull": ["$host", {"$literal": host_of(request.url)}]},
        "metadata": {"$ifNull": ["$metadata", None]},
        "processing": {"$mergeObjects": ["$processing", now_queued, waiting]},
        "created_at": {"$ifNull": ["$created_at", "$$NOW"]},
        "updated_at": {"$cond": [queues, "$$NOW", "$updated_at"]},
    }
    return UpdateOne({"url": request.url}, [{"$set": update}], upsert=True)


def _reserved(request: PageRequest) -> Document:
    return {
        "url": request.url,
        "status": PageStatus.QUEUED,
        "processing.last_request_id": request.request_id,
    }


def _queued(request: PageRequest) -> Document:
    """Return the fields of a new record, as expressions."""
    return {
        "status": PageStatus.QUEUED,
        "host": {"$literal": host_of(request.url)},
        "metadata": None,
        "processing": _unclaimed(request.request_id),
        "created_at": "$$NOW",
        "updated_at": "$$NOW",
    }


def _unclaimed(request_id: UUID) -> Document:
    """Return what `processing` says of a request that waits for its first attempt."""
    return {
        "attempts": 0,
        "last_request_id": request_id,
        "last_attempt_at": None,
        "lease_expires_at": None,
        "last_error": None,
        "claim": None,
        "finished": False,
        "suspect": False,
    }


def _unless_present(name: str, value: Any) -> Document:
    return {"$cond": [_is_missing(name), value, f"${name}"]}


def _is_missing(name: str) -> Document:
    return {"$eq": [{"$type": f"${name}"}, "missing"]}


def _failed(claim: Claim, status: PageStatus, error: PageError) -> Document:
    return {
        "status": PageStatus.COMPLETED if claim.refreshes else status,
        "processing.last_error": _ERROR.dump_python(error),
    }


def _record_fields(patience_seconds: float) -> Document:
    """Return the projection of a record without its metadata.

    The database computes `has_stalled`, by its own clock.
    """
    lease = {"$ifNull": ["$processing.lease_expires_at", None]}
    last_change_allowed = {"$subtract": ["$$NOW", round(patience_seconds * 1000)]}
    lease_is_over = {"$lt": [lease, "$$NOW"]}
    waits_too_long = {"$lt": ["$updated_at", last_change_allowed]}
    stands_still = {"$cond": [{"$ne": [lease, None]}, lease_is_over, waits_too_long]}
    return {
        "url": True,
        "status": True,
        "has_metadata": {"$eq": [{"$type": "$metadata"}, "object"]},
        "processing": dict.fromkeys(_SHOWN_PROCESSING, True),
        "created_at": True,
        "updated_at": True,
        "has_stalled": {"$and": [{"$in": ["$status", _MAY_STALL]}, stands_still]},
    }


_SOURCE_IS_TEXT = {"$eq": [{"$type": "$metadata.page_source"}, "string"]}
_SOURCE_BYTES = {"$cond": [_SOURCE_IS_TEXT, {"$strLenBytes": "$metadata.page_source"}, 0]}
_SOURCE_IS_LARGE = {"$gt": [_SOURCE_BYTES, MAX_INLINE_SOURCE_BYTES]}


def _metadata_fields(fields: Fields) -> Document:
    """Return the projection of some fields of the metadata, less a large page source."""
    if "page_source" not in fields:
        return _whole_metadata_fields(fields)
    size = {"omitted_source_bytes": {"$cond": [_SOURCE_IS_LARGE, _SOURCE_BYTES, 0]}}
    if fields == METADATA_FIELDS:
        without_source = {"$mergeObjects": ["$metadata", {"page_source": None}]}
        return size | {"metadata": {"$cond": [_SOURCE_IS_LARGE, without_source, "$metadata"]}}
    source = {"$cond": [_SOURCE_IS_LARGE, None, "$metadata.page_source"]}
    return _whole_metadata_fields(fields) | size | {"metadata.page_source": source}


def _whole_metadata_fields(fields: Fields) -> Document:
    """Return the projection of some fields of the metadata, a large page source included."""
    whole = {"omitted_source_bytes": {"$literal": 0}}
    if fields == METADATA_FIELDS:
        return whole | {"metadata": True}
    return whole | {f"metadata.{name}": True for name in fields}


def _record(document: Document, fields: Fields) -> PageRecord:
    try:
        return _parse(document, fields)
    except (ValidationError, KeyError, TypeError) as exc:
        logger.error(
            "record_unreadable", url=document["url"], reason=f"{type(exc).__name__}: {exc}"
        )
        raise UnreadableRecord(f"the record of {document['url']} cannot be read") from exc


def _parse(document: Document, fields: Fields) -> PageRecord:
    processing = document["processing"]
    error = processing.get("last_error")
    metadata = document.get("metadata", {}) if document["has_metadata"] else None
    is_whole = fields == METADATA_FIELDS
    return PageRecord(
        url=document["url"],
        status=_known_status(document["status"]),
        metadata=_METADATA.validate_python(metadata) if is_whole and metadata else None,
        selected=None if is_whole or metadata is None else _selected(metadata),
        error=error and _ERROR.validate_python(error),
        attempts=processing["attempts"],
        request_id=processing["last_request_id"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        lease_expires_at=processing.get("lease_expires_at"),
        has_stalled=document["has_stalled"],
        omitted_source_bytes=document["omitted_source_bytes"],
        outcome_id=processing.get("ended_claim"),
    )


def _selected(metadata: Document) -> Document:
    """Check some fields of the metadata; one that the record does not have is left out."""
    return {name: _METADATA_FIELDS[name].validate_python(value) for name, value in metadata.items()}


def _known_status(text: str) -> PageStatus | str:
    try:
        return PageStatus(text)
    except ValueError:
        return text
