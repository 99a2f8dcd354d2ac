"""The repository of page records: an intent comes in, an atomic operation goes out.

Which delivery may fetch a page is decided in `claims.py`. All times of a record are the
database's own (`$$NOW`, `$currentDate`), whichever machine wrote it.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError

from app.models import (
    METADATA_FIELDS,
    Awaited,
    Busy,
    Claim,
    Coalesced,
    Delivery,
    PageError,
    PageEvent,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    RequestRecord,
)
from app.runtime.tracing import traced
from app.search import search_terms
from app.store import awaited
from app.store.batching import Batcher
from app.store.claims import (
    COVERED,
    HAS_RESULT,
    IS_DELETED,
    IS_KNOWN,
    MAX_WAITING,
    NEXT_REVISION,
    OUTCOME,
    WAITING,
    AttemptResult,
    Bson,
    ClaimRequest,
    Claims,
    covering,
    held,
    is_covered,
    record_head,
    released,
)
from app.store.indexes import ASKED_AT, BY_URL
from app.store.mongo import Database, translated_errors, write_all
from app.store.outbox import (
    deletion,
    event_as_bson,
    events_of,
    last_unpublished,
    untold,
    with_event_of,
)
from app.store.progress import (
    as_bson,
    mentioning,
    request_fields,
    request_record,
)
from app.store.reads import IS_TO_BE_NOTED, ReadNotes
from app.store.records import (
    Fields,
    metadata_as_bson,
    metadata_fields,
    record_fields,
    record_of,
    whole_metadata_fields,
)
from app.urls import host_of
from app.validators import validators_of

LARGE_PAGE_CHARACTERS = 262_144
"""A page above this is written on its own, so that no bulk grows out of proportion."""


class PageRepository:
    """Page records in MongoDB; one for each URL.

    `patience_seconds`: how long a request may wait for its next attempt before its page counts
    as stalled. `notes_reads`: keep `asked_at` of pages that are read, for their retention. Every
    method raises `StoreUnavailable` if the database does not answer in time; those that take a
    page's data raise `NotStorable` if it can never be kept.
    """

    def __init__(
        self, database: Database, *, patience_seconds: float, notes_reads: bool = False
    ) -> None:
        self._database = database
        self._fields = record_fields(patience_seconds)
        self._read_notes = ReadNotes(database) if notes_reads else None
        if notes_reads:
            self._fields["is_to_be_noted"] = IS_TO_BE_NOTED
        timeout = database.timeout_seconds
        self._find: Batcher[tuple[str, Fields], Bson | None]
        self._find = Batcher(self._find_all, timeout_seconds=timeout)
        self._note_queued = Batcher(self._note_all_queued, timeout_seconds=timeout)
        self._claims = Claims(database)

    @traced("pages.find")
    async def find(self, url: str, fields: Fields = METADATA_FIELDS) -> PageRecord | None:
        """Return the record of a page, if there is one, without its source if that is large.

        Of the metadata only the `fields` are read. Raises `UnreadableRecord`.
        """
        with translated_errors():
            document = await self._find((url, fields))
        return self._read(document, fields) if document else None

    @traced("pages.find_with_source")
    async def find_with_source(
        self, url: str, fields: Fields = METADATA_FIELDS
    ) -> PageRecord | None:
        """Return the record of a page, if there is one, with its source however large it is.

        Takes up to seven times the size of the source in memory. Of the metadata only the `fields`
        are read. Raises `UnreadableRecord`.
        """
        projection = self._fields | whole_metadata_fields(fields)
        with translated_errors():
            document = await self._database.pages.find_one(
                {"url": url} | IS_KNOWN, projection, hint=BY_URL
            )
        return self._read(document, fields) if document else None

    @traced("pages.answered")
    async def answered(self, waits: Collection[Awaited]) -> set[Awaited]:
        """Return those of many waits that are over, with one query of a few bytes for each page."""
        with translated_errors():
            return await awaited.answered(self._database.pages, waits)

    @traced("pages.note_queued")
    async def note_queued(self, request: PageRequest) -> None:
        """List a published request as waiting for a fetch.

        Inserts a QUEUED record if there is none, and makes one that has failed QUEUED again.
        Changes nothing if a worker has handled the request already.
        """
        with translated_errors():
            await self._note_queued(request)

    @traced("pages.reserve")
    async def reserve(self, request: PageRequest) -> bool:
        """Insert a QUEUED record; False if there is a record already. One caller wins."""
        insert = {name: _unless_known(name, value) for name, value in _queued(request).items()}
        with translated_errors():
            try:
                before = await self._database.pages.find_one_and_update(
                    {"url": request.url},
                    [{"$set": insert}],
                    projection={"status": True},
                    upsert=True,
                    return_document=ReturnDocument.BEFORE,
                )
            except DuplicateKeyError:  # another process inserted it at the same moment
                return False
        return before is None or before["status"] == PageStatus.DELETED

    @traced("pages.reserve_again")
    async def reserve_again(self, request: PageRequest, record: PageRecord) -> bool:
        """Make a record that has stalled or failed QUEUED for another request. One caller wins."""
        waiting = {"waiting": {"$concatArrays": [WAITING, [request.request_id]]}}
        queued = {
            "status": PageStatus.QUEUED,
            "processing": {
                "$mergeObjects": ["$processing", _unclaimed(request.request_id), waiting]
            },
            "updated_at": "$$NOW",
            ASKED_AT: "$$NOW",
        }
        with translated_errors():
            result = await self._database.pages.update_one(
                _unchanged(record), [{"$set": queued}], hint=BY_URL
            )
        return bool(result.modified_count)

    @traced("pages.reserve_refresh")
    async def reserve_refresh(
        self, request: PageRequest, record: PageRecord, fields: Fields = METADATA_FIELDS
    ) -> PageRecord | None:
        """List a request as waiting for a refresh of a page that has a result. One caller wins.

        Returns the record as `find()` does, or None if somebody else has changed it. A refresh that
        has stalled loses its claim: should its worker still be at work, it writes nothing.
        """
        processing = {
            "waiting": {"$concatArrays": [WAITING, [request.request_id]]},
            "waiting_since": "$$NOW",
            "claim": None,
            "lease_expires_at": None,
            "revision": NEXT_REVISION,
        }
        reserved = {
            "processing": {"$mergeObjects": ["$processing", processing]},
            "updated_at": "$$NOW",
            ASKED_AT: "$$NOW",
        }
        with translated_errors():
            document = await self._database.pages.find_one_and_update(
                _unchanged(record),
                [{"$set": reserved}],
                projection=self._fields | metadata_fields(fields),
                return_document=ReturnDocument.AFTER,
                hint=BY_URL,
            )
        return record_of(document, fields) if document else None

    @traced("pages.withdraw_refresh")
    async def withdraw_refresh(self, request: PageRequest, record: PageRecord) -> None:
        """Take back what `reserve_refresh()` listed, unless a fetch has begun since.

        A refresh that had stalled has stalled again then, for the next reader to find.
        """
        listed = {"url": request.url, "processing.waiting": request.request_id}
        as_it_was = {
            "processing.lease_expires_at": record.lease_expires_at,
            "updated_at": record.updated_at,
        }
        with translated_errors():
            await self._database.pages.update_one(
                listed, _without_waiting(request) | {"$set": as_it_was}
            )

    @traced("pages.release")
    async def release(self, request: PageRequest) -> None:
        """Take back what `reserve()` inserted, if nothing has happened to it since."""
        was_deleted = {"deleted_at": {"$exists": True}}
        deleted_again = {"status": PageStatus.DELETED, "processing.finished": True}
        with translated_errors():
            await self._database.pages.update_one(
                _reserved(request) | was_deleted,
                _without_waiting(request) | {"$set": deleted_again},
                hint=BY_URL,
            )
            await self._database.pages.delete_one(_reserved(request), hint=BY_URL)

    @traced("pages.restore")
    async def restore(self, record: PageRecord, request: PageRequest) -> None:
        """Make a record again what it was before `reserve_again()`, if it has not changed since."""
        as_it_was = {
            "status": record.status,
            "processing.finished": record.has_ended,
            "processing.attempts": record.attempts,
            "processing.last_request_id": record.request_id,
            "processing.lease_expires_at": record.lease_expires_at,
            "processing.last_error": as_bson(record.error),
            "updated_at": record.updated_at,
        }
        with translated_errors():
            await self._database.pages.update_one(
                _reserved(request),
                _without_waiting(request) | {"$set": as_it_was},
                hint=BY_URL,
            )

    async def is_suspect(self, delivery: Delivery) -> bool:
        """Say whether a worker died while it fetched the page for this very request."""
        signs: list[Bson] = [{"processing.suspect": True}]
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

    @traced("pages.claim")
    async def claim(
        self, delivery: Delivery, *, lease_seconds: float, alone: bool = False
    ) -> Claim | Coalesced | Busy:
        """Take a page for one attempt and count it, or say why it is not to be fetched.

        A redelivered or deferred message takes over the claim of its own request at once: the
        worker that held it is gone, or has given the message back. `alone` is to be set if the
        worker fetches no other page meanwhile.
        """
        with translated_errors():
            return await self._claims.claim(ClaimRequest(delivery, lease_seconds, alone))

    @traced("pages.complete")
    async def complete(
        self, claim: Claim, metadata: PageMetadata, event: PageEvent | None = None
    ) -> PageStatus | None:
        """Keep the result of a claimed page, and the event that tells of it.

        Returns the status of the page, None if the claim is void.
        """
        validators = validators_of(metadata)
        kept = {"body_sha256": metadata.body_sha256}
        changes = {
            **_COMPLETED,
            **_metadata(claim, metadata),
            "processing.validators": validators and asdict(validators) | kept,
        }
        return await self._end_attempt(
            AttemptResult(claim, changes, _outcome(claim, PageStatus.COMPLETED, event), checks=True)
        )

    @traced("pages.confirm")
    async def confirm(self, claim: Claim, event: PageEvent | None = None) -> PageStatus | None:
        """Keep that the result of a claimed page still holds, as its server says.

        Returns as `complete()` does; None also if the result is no longer the one that the claim
        was given. It is not confirmed then, and the page stays claimed.
        """
        return await self._end_attempt(
            AttemptResult(
                claim,
                _COMPLETED,
                _outcome(claim, PageStatus.COMPLETED, event),
                checks=True,
                result_is={"metadata.body_sha256": claim.body_sha256},
            )
        )

    @traced("pages.fail")
    async def fail(
        self,
        claim: Claim,
        error: PageError,
        metadata: PageMetadata | None = None,
        event: PageEvent | None = None,
    ) -> PageStatus | None:
        """Keep a failure that is final, with the last response if there was one.

        Returns as `complete()` does. A failed refresh leaves the result it has in place.
        """
        changes = _failed(claim, PageStatus.FAILED_PERMANENT, error)
        if not claim.refreshes:
            changes |= _metadata(claim, metadata) if metadata else {"metadata": None}
        outcome = _outcome(claim, PageStatus.FAILED_PERMANENT, event, error)
        return await self._end_attempt(
            AttemptResult(claim, changes, outcome, checks=not claim.refreshes)
        )

    @traced("pages.note_retry")
    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None:
        """Keep a failure that will be tried again. Returns as `complete()` does."""
        changes = _failed(claim, PageStatus.FAILED_RETRYABLE, error)
        return await self._end_attempt(AttemptResult(claim, changes))

    @traced("pages.abandon")
    async def abandon(self, claim: Claim) -> None:
        """Give a claim up without having made its attempt, which then does not count."""
        uncounted = {"status": _status_before(claim), "processing.attempts": claim.attempt - 1}
        with translated_errors():
            await self._database.pages.update_one(held(claim), released(claim, uncounted))

    @traced("pages.find_events")
    async def find_events(self, request: PageRequest) -> tuple[PageEvent, ...]:
        """Return the events of the outcomes that a request had, as far as the record keeps them."""
        shown = {"processing.outcomes.request_id": True, "processing.outcomes.event": True}
        with translated_errors():
            document = await self._database.pages.find_one(with_event_of(request), shown)
        return events_of(request, document)

    @traced("pages.delete")
    async def delete(self, url: str, *, tells: bool) -> PageEvent | None:
        """Forget a page, and have every request for it answered that was accepted so far.

        The claim of a fetch under way becomes void. What is left for a while is a record that lists
        those requests, so that their messages fetch nothing. With `tells` its event is kept as one
        to be published, and returned; so is the event of the latest outcome, whose message would no
        longer find it. Returns None if the page is unknown.
        """
        event_id = uuid4()
        with translated_errors():
            document = await self._database.pages.find_one_and_update(
                {"url": url} | IS_KNOWN,
                [{"$set": _deleted(deletion(event_id) if tells else None)}, {"$unset": _FORGOTTEN}],
                projection={"unpublished": True},
                return_document=ReturnDocument.AFTER,
                hint=BY_URL,
            )
        return last_unpublished(document) if document and tells else None

    @traced("pages.find_request")
    async def find_request(self, request_id: UUID) -> RequestRecord | None:
        """Return what became of a request, if the record of its page remembers it.

        A record remembers the requests that wait, those that the latest fetch covers, and up to
        `KEPT_COVERED` before them, as long as theirs is among the latest `KEPT_OUTCOMES` outcomes.
        """
        with translated_errors():
            document = await self._database.pages.find_one(
                mentioning(request_id), request_fields(request_id)
            )
        return request_record(request_id, document) if document else None

    async def _find_all(self, wanted: Sequence[tuple[str, Fields]]) -> list[Bson | None]:
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
        projection = self._fields | metadata_fields(fields)
        matching = {"url": {"$in": list(urls)}} | IS_KNOWN
        return self._database.pages.find(matching, projection, hint=BY_URL)

    def _read(self, document: Bson, fields: Fields) -> PageRecord:
        """Return a record that is to be shown to a reader."""
        if self._read_notes is not None and document["is_to_be_noted"]:
            self._read_notes.add(document["url"])
        return record_of(document, fields)

    async def _note_all_queued(self, requests: Sequence[PageRequest]) -> list[None]:
        await write_all(self._database.pages, [_note(request) for request in requests])
        return [None] * len(requests)

    async def _end_attempt(self, result: AttemptResult) -> PageStatus | None:
        page_source = (result.fields.get("metadata") or {}).get("page_source") or ""
        with translated_errors():
            return await self._claims.end(result, is_large=len(page_source) > LARGE_PAGE_CHARACTERS)


_COMPLETED = {"status": PageStatus.COMPLETED, "processing.last_error": None}
"""What a record says of a page whose result was stored or confirmed."""


def _status_before(claim: Claim) -> PageStatus:
    """Return the status of a page as it was when its claim was taken."""
    if claim.refreshes:
        return PageStatus.COMPLETED
    return PageStatus.QUEUED if claim.attempt == 1 else PageStatus.FAILED_RETRYABLE


def _metadata(claim: Claim, metadata: PageMetadata) -> Bson:
    title = metadata.document.title if metadata.document else None
    return {
        "metadata": metadata_as_bson(metadata),
        "search": search_terms(host_of(claim.url), title),
    }


def _outcome(
    claim: Claim, status: PageStatus, event: PageEvent | None, error: PageError | None = None
) -> Bson:
    return {
        "status": status,
        "attempts": claim.attempt,
        "error": as_bson(error),
        "event": event_as_bson(event),
    }


def _deleted(event: Bson | None) -> Bson:
    """Return the fields of the record of a page that is deleted, as expressions."""
    outcome = {
        "number": OUTCOME,
        "request_id": None,
        "status": PageStatus.DELETED,
        "attempts": 0,
        "error": None,
        "event": event,
    }
    # The last request may not be listed in a record of version 0.1.0.
    last_request = {"$ifNull": [["$processing.last_request_id"], []]}
    unpublished = {"$ifNull": ["$unpublished", []]}
    return {
        "status": PageStatus.DELETED,
        "metadata": None,
        "processing": {
            "$mergeObjects": [
                _unclaimed(None),
                {
                    "finished": True,
                    "waiting": [],
                    "covered": covering(last_request, keeps_all=True),
                    "outcome": {"$add": [OUTCOME, 1]},
                    "outcomes": [outcome],
                },
            ]
        },
        "unpublished": (
            {"$concatArrays": [unpublished, untold(), [event]]} if event else unpublished
        ),
        "updated_at": "$$NOW",
        "deleted_at": "$$NOW",
    }


_FORGOTTEN = ["checked_at", "search"]


def _unchanged(record: PageRecord) -> Bson:
    """Match the record of a page if nobody has changed it since it was read."""
    return {
        "url": record.url,
        "status": record.status,
        "updated_at": record.updated_at,
        "processing.attempts": record.attempts,
        "processing.last_request_id": record.request_id,
        "processing.revision": record.revision,
    }


def _without_waiting(request: PageRequest) -> Bson:
    return {
        "$pull": {"processing.waiting": request.request_id},
        "$inc": {"processing.revision": 1},
    }


def _note(request: PageRequest) -> UpdateOne:
    """Return the upsert of `note_queued()`.

    Whether a worker has handled the request is read from the record's list of covered requests,
    not from times: those of the API and the database may differ.
    """
    handled = is_covered(request.request_id)
    has_failed = {"$eq": ["$status", PageStatus.FAILED_PERMANENT]}
    may_queue = {"$or": [_is_missing("status"), has_failed, IS_DELETED]}
    queues = {"$and": [{"$not": [handled]}, may_queue]}
    is_listed = {
        "$or": [
            handled,
            {"$in": [request.request_id, WAITING]},
            {"$gte": [{"$size": WAITING}, MAX_WAITING]},
        ]
    }
    is_first = {"$and": [{"$not": [is_listed]}, {"$eq": [WAITING, []]}]}
    # A reader sees a page with a result change only by the first request that waits.
    shows = {"$or": [queues, {"$and": [HAS_RESULT, is_first]}]}
    listed = {"$concatArrays": [WAITING, [request.request_id]]}
    now_queued = {"$cond": [queues, _unclaimed(request.request_id), {}]}
    waiting = {
        "waiting": {"$cond": [is_listed, WAITING, listed]},
        "waiting_since": {"$cond": [is_first, "$$NOW", "$processing.waiting_since"]},
        "covered": COVERED,
        "revision": {"$cond": [shows, NEXT_REVISION, "$processing.revision"]},
    }
    update = {
        "status": {"$cond": [queues, PageStatus.QUEUED, "$status"]},
        **record_head(request.url),
        "processing": {"$mergeObjects": ["$processing", now_queued, waiting]},
        "updated_at": {"$cond": [shows, "$$NOW", "$updated_at"]},
        ASKED_AT: "$$NOW",
    }
    return UpdateOne({"url": request.url}, [{"$set": update}], upsert=True)


def _reserved(request: PageRequest) -> Bson:
    return {
        "url": request.url,
        "status": PageStatus.QUEUED,
        "processing.last_request_id": request.request_id,
    }


def _queued(request: PageRequest) -> Bson:
    """Return the fields of a new record, as expressions."""
    host = host_of(request.url)
    return {
        "status": PageStatus.QUEUED,
        "host": {"$literal": host},
        "search": {"$literal": search_terms(host, None)},
        "metadata": None,
        "processing": {
            "$mergeObjects": [
                "$processing",
                _unclaimed(request.request_id),
                {"waiting": [request.request_id], "waiting_since": "$$NOW"},
            ]
        },
        "created_at": "$$NOW",
        "updated_at": "$$NOW",
        ASKED_AT: "$$NOW",
    }


def _unclaimed(request_id: UUID | None) -> Bson:
    """Return what `processing` says of a request that waits for its first attempt."""
    return {
        "attempts": 0,
        "last_request_id": request_id,
        "requested_at": "$$NOW",
        "last_attempt_at": None,
        "lease_expires_at": None,
        "last_error": None,
        "claim": None,
        "finished": False,
        "suspect": False,
        "revision": NEXT_REVISION,
    }


def _unless_known(name: str, value: Any) -> Bson:
    return {"$cond": [{"$or": [_is_missing("status"), IS_DELETED]}, value, f"${name}"]}


def _is_missing(name: str) -> Bson:
    return {"$eq": [{"$type": f"${name}"}, "missing"]}


def _failed(claim: Claim, status: PageStatus, error: PageError) -> Bson:
    return {
        "status": PageStatus.COMPLETED if claim.refreshes else status,
        "processing.last_error": as_bson(error),
    }
