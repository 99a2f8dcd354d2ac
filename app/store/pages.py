"""The repository of page records: an intent comes in, an atomic operation goes out.

Attempts at pages have a file of their own, `attempts.py`.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from pydantic import TypeAdapter
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError

from app.models import (
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
from app.store.attempts import Attempts, Document, End, Wish, held
from app.store.batching import Batcher
from app.store.mongo import Database, suppressed_duplicates, translated_errors

LARGE_PAGE_CHARACTERS = 262_144
"""A page above this is written on its own, so that no bulk grows out of proportion."""

_METADATA = TypeAdapter(PageMetadata)
_ERROR = TypeAdapter(PageError)


class PageRepository:
    """Page records in MongoDB; one for each URL.

    Every method raises `StoreUnavailable` if the database does not answer in time, and those
    that take a page's data raise `NotStorable` if it can never be kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        timeout = database.timeout_seconds
        self._find = Batcher(self._find_all, timeout_seconds=timeout)
        self._note_queued = Batcher(self._note_all_queued, timeout_seconds=timeout)
        self._attempts = Attempts(database)

    @TRACER.start_as_current_span("pages.find")
    async def find(self, url: str) -> PageRecord | None:
        """Return the record of a page, if there is one."""
        with translated_errors():
            return await self._find(url)

    @TRACER.start_as_current_span("pages.note_queued")
    async def note_queued(self, request: PageRequest) -> None:
        """Show a published request as QUEUED.

        Changes nothing for a page that has a result, is being worked on, or has been since.
        """
        with translated_errors():
            await self._note_queued(request)

    @TRACER.start_as_current_span("pages.reserve")
    async def reserve(self, request: PageRequest) -> bool:
        """Insert a QUEUED record; False if there is a record already. One caller wins."""
        missing = {"url": request.url}
        with translated_errors(), suppress(DuplicateKeyError):
            before = await self._database.pages.find_one_and_update(
                missing,
                {"$setOnInsert": _queued(request)},
                projection={"_id": True},
                upsert=True,
                return_document=ReturnDocument.BEFORE,
            )
            return before is None
        return False

    @TRACER.start_as_current_span("pages.reserve_again")
    async def reserve_again(self, request: PageRequest, stalled: PageRecord) -> bool:
        """Make a stalled record QUEUED for another request. One caller wins."""
        queued = _queued(request)
        as_it_was = {
            "url": stalled.url,
            "updated_at": stalled.updated_at,
            "processing.lease_expires_at": stalled.lease_expires_at,
        }
        del queued["created_at"], queued["metadata"]
        with translated_errors():
            result = await self._database.pages.update_one(as_it_was, {"$set": queued})
        return bool(result.modified_count)

    @TRACER.start_as_current_span("pages.release")
    async def release(self, request: PageRequest) -> None:
        """Take back what `reserve()` inserted, if nothing has happened to it since."""
        with translated_errors():
            await self._database.pages.delete_one(_reserved(request))

    @TRACER.start_as_current_span("pages.restore")
    async def restore(self, stalled: PageRecord, request: PageRequest) -> None:
        """Make a record what it was before `reserve_again()`, if nothing has happened since."""
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

    @TRACER.start_as_current_span("pages.claim")
    async def claim(
        self, delivery: Delivery, *, now: datetime, lease_seconds: float
    ) -> Claim | Coalesced:
        """Take a page for one attempt and count it, or say who has or will have answered.

        A message that comes back takes over the claim of its own request at once: the worker
        that held it is gone, or has put the message off.
        """
        with translated_errors():
            return await self._attempts.claim(Wish(delivery, now, lease_seconds))

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
            ends_request=True,
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
            ends_request=True,
        )

    @TRACER.start_as_current_span("pages.note_retry")
    async def note_retry(self, claim: Claim, error: PageError) -> PageStatus | None:
        """Keep a failure that will be tried again. Returns as `complete()` does."""
        changes = _failed(claim, PageStatus.FAILED_RETRYABLE, error)
        return await self._end_attempt(claim, changes, ends_request=False)

    @TRACER.start_as_current_span("pages.abandon")
    async def abandon(self, claim: Claim) -> None:
        """Give a claim up without having made its attempt, which then does not count."""
        with translated_errors():
            await self._database.pages.update_one(
                held(claim),
                {
                    "$set": {"processing.lease_expires_at": None, "processing.claim": None},
                    "$inc": {"processing.attempts": -1},
                },
            )

    async def _find_all(self, urls: Sequence[str]) -> list[PageRecord | None]:
        cursor = self._database.pages.find({"url": {"$in": list(set(urls))}})
        records = {document["url"]: _record(document) async for document in cursor}
        return [records.get(url) for url in urls]

    async def _note_all_queued(self, requests: Sequence[PageRequest]) -> list[None]:
        with suppressed_duplicates():
            await self._database.pages.bulk_write(
                [_note_of(request) for request in requests], ordered=False
            )
        return [None] * len(requests)

    async def _end_attempt(
        self, claim: Claim, changes: Document, *, ends_request: bool
    ) -> PageStatus | None:
        update: Document = {
            "$set": {"processing.lease_expires_at": None, **changes},
            "$currentDate": {"updated_at": True},
        }
        if ends_request:
            update["$set"]["processing.answers_until"] = claim.started_at
        page_source = (changes.get("metadata") or {}).get("page_source") or ""
        with translated_errors():
            return await self._attempts.end(
                End(claim, update), is_large=len(page_source) > LARGE_PAGE_CHARACTERS
            )


def _note_of(request: PageRequest) -> UpdateOne:
    """Return an upsert that fails on its unique key where there is nothing to change."""
    failed_before = {
        "url": request.url,
        "status": PageStatus.FAILED_PERMANENT,
        "updated_at": {"$lt": request.requested_at},
    }
    queued = _queued(request)
    created = {name: queued.pop(name) for name in ("created_at", "metadata")}
    return UpdateOne(failed_before, {"$set": queued, "$setOnInsert": created}, upsert=True)


def _reserved(request: PageRequest) -> Document:
    return {
        "url": request.url,
        "status": PageStatus.QUEUED,
        "processing.last_request_id": request.request_id,
    }


def _queued(request: PageRequest) -> Document:
    return {
        "status": PageStatus.QUEUED,
        "metadata": None,
        "processing.attempts": 0,
        "processing.last_request_id": request.request_id,
        "processing.last_attempt_at": None,
        "processing.lease_expires_at": None,
        "processing.last_error": None,
        "created_at": request.requested_at,
        "updated_at": request.requested_at,
    }


def _failed(claim: Claim, status: PageStatus, error: PageError) -> Document:
    return {
        "status": PageStatus.COMPLETED if claim.refreshes else status,
        "processing.last_error": _ERROR.dump_python(error),
    }


def _record(document: Document) -> PageRecord:
    processing = document["processing"]
    metadata, error = document.get("metadata"), processing["last_error"]
    return PageRecord(
        url=document["url"],
        status=PageStatus(document["status"]),
        metadata=metadata and _METADATA.validate_python(metadata),
        error=error and _ERROR.validate_python(error),
        attempts=processing["attempts"],
        request_id=processing["last_request_id"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        lease_expires_at=processing["lease_expires_at"],
    )
