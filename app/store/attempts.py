"""Attempts at pages: one atomic write takes a page, one ends the attempt.

Those of one moment go together, as a bulk and one look at what has come of it: where a worker has
many pages at once, that is a fraction of the round trips. Alone, each is a single operation.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from bson.errors import InvalidDocument
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DocumentTooLarge, DuplicateKeyError

from app.models import Claim, Coalesced, Delivery, PageRequest, PageStatus
from app.store.batching import Batcher
from app.store.mongo import Database, suppressed_duplicates

Document = dict[str, Any]

ALONE = 1
"""Up to how many are not worth a bulk."""

MOST_TOGETHER = 50

_UNWRITABLE = (DocumentTooLarge, InvalidDocument, UnicodeError, OverflowError)
"""What one document may be that keeps a whole bulk from being written."""

_STATUS_AND_HOLDER = {
    "url": True,
    "status": True,
    "processing.attempts": True,
    "processing.last_request_id": True,
    "processing.claim": True,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """A delivery that wants its page; `token` tells its claim from any other."""

    delivery: Delivery
    now: datetime
    lease_seconds: float
    token: UUID = field(default_factory=uuid4)

    @property
    def url(self) -> str:
        """The page."""
        return self.delivery.request.url

    def claimable(self) -> Document:
        """Match the page unless it was answered, or another holds it."""
        return {
            "url": self.url,
            "$nor": [_answered(self.delivery.request), self._held_by_another()],
        }

    def _held_by_another(self) -> Document:
        request = self.delivery.request
        own: Document = {"processing.last_request_id": request.request_id}
        if not (self.delivery.redelivered or self.delivery.deferrals):
            # A first copy leaves its own claim alone, unless that is of an earlier attempt.
            own["processing.attempts"] = {"$lt": request.attempt}
        return {
            "processing.lease_expires_at": {"$gt": self.now},
            "$nor": [own, {"processing.claim": self.token}],
        }

    def fields(self) -> Document:
        """Return the fields of a claimed record, computed by the server from what is there."""
        request = self.delivery.request
        same_request = {"$eq": ["$processing.last_request_id", request.request_id]}
        # A claim that was lost with its worker counts; one that was put off does not.
        counted = {"$add": ["$processing.attempts", int(self.delivery.redelivered)]}
        attempts = {"$cond": [same_request, {"$max": [counted, request.attempt]}, request.attempt]}
        has_result = {"$eq": ["$status", PageStatus.COMPLETED]}
        return {
            "status": {"$cond": [has_result, PageStatus.COMPLETED, PageStatus.IN_PROGRESS]},
            "metadata": {"$ifNull": ["$metadata", None]},
            "processing.attempts": attempts,
            "processing.claim": self.token,
            "processing.last_request_id": request.request_id,
            "processing.last_attempt_at": self.now,
            "processing.lease_expires_at": self.now + timedelta(seconds=self.lease_seconds),
            "processing.last_error": {"$ifNull": ["$processing.last_error", None]},
            "created_at": {"$ifNull": ["$created_at", self.now]},
            "updated_at": self.now,
        }

    def is_granted_by(self, document: Document | None) -> bool:
        """Say whether a record is claimed, and for this very wish."""
        return document is not None and document["processing"].get("claim") == self.token

    def claim_on(self, document: Document) -> Claim:
        """Return the claim that a record grants."""
        return Claim(
            url=self.url,
            request_id=self.delivery.request.request_id,
            attempt=document["processing"]["attempts"],
            started_at=self.now,
            refreshes=document["status"] == PageStatus.COMPLETED,
            token=self.token,
        )


@dataclass(frozen=True, slots=True)
class End:
    """What a record becomes when the attempt of a claim is over."""

    claim: Claim
    update: Document

    def is_seen_in(self, document: Document | None) -> bool:
        """Say whether a record still has the claim, so that what was written was written to it."""
        if document is None:
            return False
        processing = document["processing"]
        holder = [processing.get(name) for name in ("last_request_id", "attempts", "claim")]
        return holder == [self.claim.request_id, self.claim.attempt, self.claim.token]


class Attempts:
    """Claims and ends of attempts in the collection of pages; raises the driver's errors."""

    def __init__(self, database: Database) -> None:
        self._database = database
        timeout = database.timeout_seconds
        self._claims: Batcher[Wish, Claim | Coalesced]
        self._claims = Batcher(self._claim_all, timeout_seconds=timeout, most=MOST_TOGETHER)
        self._ends: Batcher[End, PageStatus | None]
        self._ends = Batcher(self._end_all, timeout_seconds=timeout, most=MOST_TOGETHER)

    async def claim(self, wish: Wish) -> Claim | Coalesced:
        """Take a page, or say who has or will have answered."""
        return await self._claims(wish)

    async def end(self, end: End, *, is_large: bool) -> PageStatus | None:
        """Return the status as the database has it now, None if the claim is void."""
        return await (self._end_one(end) if is_large else self._ends(end))

    async def _claim_all(self, wishes: Sequence[Wish]) -> list[Claim | Coalesced | BaseException]:
        if len(wishes) <= ALONE:
            return [await self._claim_one(wish) for wish in wishes]
        claims = [
            UpdateOne(wish.claimable(), [{"$set": wish.fields()}], upsert=True) for wish in wishes
        ]
        with suppress(*_UNWRITABLE), suppressed_duplicates():
            await self._database.pages.bulk_write(claims, ordered=False)
        documents = await self._look_at([wish.url for wish in wishes])
        return await asyncio.gather(
            *(self._granted_or_claimed(wish, documents.get(wish.url)) for wish in wishes),
            return_exceptions=True,
        )

    async def _granted_or_claimed(self, wish: Wish, document: Document | None) -> Claim | Coalesced:
        if document is not None and wish.is_granted_by(document):
            return wish.claim_on(document)
        return await self._claim_one(wish)

    async def _claim_one(self, wish: Wish) -> Claim | Coalesced:
        """Claim a record or insert a claimed one.

        The second try is for a record that was inserted between the server's look and its own
        insert: it may well be claimable.
        """
        for _ in range(2):
            with suppress(DuplicateKeyError):
                document: Document = await self._database.pages.find_one_and_update(
                    wish.claimable(),
                    [{"$set": wish.fields()}],
                    projection=_STATUS_AND_HOLDER,
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
                return wish.claim_on(document)
        return await self._why_not(wish.delivery.request)

    async def _why_not(self, request: PageRequest) -> Coalesced:
        answered = await self._database.pages.find_one(
            {"url": request.url, **_answered(request)}, projection={"_id": True}
        )
        return Coalesced("answered" if answered else "in_progress")

    async def _end_all(self, ends: Sequence[End]) -> Sequence[PageStatus | BaseException | None]:
        """End what can be ended together; where that fails each is told its own reason."""
        if len(ends) > ALONE and await self._are_written_together(ends):
            documents = await self._look_at([end.claim.url for end in ends])
            found = [(end, documents.get(end.claim.url)) for end in ends]
            return [
                PageStatus(document["status"]) if document and end.is_seen_in(document) else None
                for end, document in found
            ]
        return await asyncio.gather(*map(self._end_one, ends), return_exceptions=True)

    async def _are_written_together(self, ends: Sequence[End]) -> bool:
        writes = [UpdateOne(held(end.claim), end.update) for end in ends]
        try:
            await self._database.pages.bulk_write(writes, ordered=False)
        except (BulkWriteError, *_UNWRITABLE):
            return False  # for the sake of one; to write the others once more does no harm
        return True

    async def _end_one(self, end: End) -> PageStatus | None:
        document = await self._database.pages.find_one_and_update(
            held(end.claim),
            end.update,
            projection={"status": True},
            return_document=ReturnDocument.AFTER,
        )
        return PageStatus(document["status"]) if document else None

    async def _look_at(self, urls: Sequence[str]) -> dict[str, Document]:
        cursor = self._database.pages.find({"url": {"$in": list(set(urls))}}, _STATUS_AND_HOLDER)
        return {document["url"]: document async for document in cursor}


def held(claim: Claim) -> Document:
    """Match the page of a claim that is not void."""
    return {
        "url": claim.url,
        "processing.last_request_id": claim.request_id,
        "processing.attempts": claim.attempt,
        "processing.claim": claim.token,
    }


def _answered(request: PageRequest) -> Document:
    """Match a page one of whose fetches started after the request and has ended."""
    return {"processing.answers_until": {"$gt": request.requested_at}}
