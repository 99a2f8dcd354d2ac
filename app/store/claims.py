"""Claims on pages: one atomic write takes a page for an attempt, one ends the attempt.

What a claim decides is computed by the database, in one update pipeline, from the record alone:
which request it serves, which claim holds it, and which requests the last fetch answers. The one
clock that counts is the database's own (`$$NOW`); no time that another machine took is compared.

The fields of `processing` that decide:

    last_request_id   the request that the page was last queued or claimed for
    attempts          the number of the latest fetch for that request
    claim             the token of the claim that holds the page; null if none does
    lease_expires_at  until when that claim keeps other requests out
    ended_claim       the token of the claim whose outcome was written last
    finished          whether the last request has its outcome; false while a retry is to come
    waiting           accepted requests that no fetch has begun for yet
    covered           requests that were accepted before the latest fetch began, so it answers them
    answered          the covered requests of the fetch before that, whose outcome is written
    alone             whether the holder fetches nothing beside this page
    suspect           whether a worker died while it fetched the page for this request
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from bson.errors import InvalidDocument
from pymongo import UpdateOne
from pymongo.errors import DocumentTooLarge, OperationFailure

from app.models import Busy, Claim, Coalesced, Delivery, PageStatus
from app.store.batching import Batcher
from app.store.mongo import Database, had_duplicates, is_of_one_write
from app.urls import host_of

T = TypeVar("T")
R = TypeVar("R")
Document = dict[str, Any]

MAX_BATCH = 50

MAX_WAITING = 1000
"""How many waiting requests a record lists. The fetch of any beyond it is not shared."""

KEPT_COVERED = 50
"""How many covered requests of earlier fetches stay listed when a new fetch begins. They tell a
late `note_queued` that its request was handled long ago."""

_UNWRITABLE = (DocumentTooLarge, InvalidDocument, UnicodeError, OverflowError)
"""What the driver raises for a document that it cannot encode: the whole bulk is then not sent."""

_DECIDING_FIELDS = {
    "url": True,
    "status": True,
    **{
        f"processing.{name}": True
        for name in (
            *("attempts", "last_request_id", "claim", "ended_claim"),
            *("finished", "covered", "lost_alone"),
        )
    },
}

HAS_RESULT = {"$eq": ["$status", PageStatus.COMPLETED]}
COVERED = {"$ifNull": ["$processing.covered", []]}
WAITING = {"$ifNull": ["$processing.waiting", []]}
_ANSWERED = {"$ifNull": ["$processing.answered", []]}
_TOKEN = {"$ifNull": ["$processing.claim", None]}
_IS_CLAIMED = {"$ne": [_TOKEN, None]}
_IS_HELD = {"$and": [_IS_CLAIMED, {"$gt": ["$processing.lease_expires_at", "$$NOW"]}]}
_IS_FINISHED = {
    # Records of version 0.1.0 do not have the field.
    "$ifNull": [
        "$processing.finished",
        {"$in": ["$status", [PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT]]},
    ]
}


def is_covered(request_id: UUID) -> Document:
    """Return the expression for: the latest fetch began after this request was accepted."""
    return {"$in": [request_id, COVERED]}


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A delivery that asks for its page; `alone` is what the claim says of its fetch."""

    delivery: Delivery
    lease_seconds: float
    alone: bool = False
    token: UUID = field(default_factory=uuid4)

    @property
    def url(self) -> str:
        """The page that is asked for."""
        return self.delivery.request.url

    def write(self) -> UpdateOne:
        """Return the update that grants the claim, or leaves the record as it is."""
        granted = self._is_granted()
        request = self.delivery.request
        update = {
            "status": _if(granted, self._status(), "$status"),
            "host": {"$ifNull": ["$host", {"$literal": host_of(self.url)}]},
            "metadata": {"$ifNull": ["$metadata", None]},
            "processing": _if(granted, self._processing(), "$processing"),
            "created_at": {"$ifNull": ["$created_at", "$$NOW"]},
            "updated_at": _if(granted, "$$NOW", "$updated_at"),
        }
        return UpdateOne({"url": request.url}, [{"$set": update}], upsert=True)

    def answer(self, document: Document | None) -> Claim | Coalesced | Busy:
        """Read from the record what became of the request for a claim."""
        if document is None:  # deleted since: ask again later
            return Busy()
        request, processing = self.delivery.request, document["processing"]
        if processing.get("claim") == self.token:
            return Claim(
                url=self.url,
                request_id=request.request_id,
                attempt=processing["attempts"],
                refreshes=document["status"] == PageStatus.COMPLETED,
                token=self.token,
                lost_alone=processing["lost_alone"],
            )
        # Records of version 0.1.0 have no such list: their last request is the covered one.
        covered = processing.get("covered", [processing.get("last_request_id")])
        # The record may have changed since the claim was refused. It may be this request's own by
        # now, noted after the fetch of another one has ended. Only a covered request has, or will
        # have, its answer; any other one has to ask again.
        if request.request_id not in covered:
            return Busy()
        has_ended = document["status"] in (PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT)
        return Coalesced("answered" if processing.get("finished", has_ended) else "in_progress")

    def _is_own(self) -> Document:
        return {"$eq": ["$processing.last_request_id", self.delivery.request.request_id]}

    def _is_granted(self) -> Document:
        """Return the condition under which the page is claimed.

        Its own request claims it again for a later attempt, and takes over what an earlier
        delivery has left behind. Another request claims it when nobody holds it, unless a fetch
        that covers the request has answered it, or a retry of that fetch will.
        """
        request, delivery = self.delivery.request, self.delivery
        takes_over = delivery.redelivered or delivery.deferrals > 0
        is_left = {"$or": [{"$not": [_IS_HELD]}, takes_over]}
        own = {
            "$or": [
                {"$lt": ["$processing.attempts", request.attempt]},
                {"$and": [{"$not": [_IS_FINISHED]}, is_left]},
            ]
        }
        lease_is_over = {"$and": [{"$not": [_IS_FINISHED]}, _IS_CLAIMED]}
        other = {
            "$and": [
                {"$not": [_IS_HELD]},
                {"$or": [{"$not": [is_covered(request.request_id)]}, lease_is_over]},
            ]
        }
        # A write that the driver sends twice must not take its own claim over.
        is_new = {"$ne": [_TOKEN, self.token]}
        return {"$and": [is_new, _if(self._is_own(), own, other)]}

    def _status(self) -> Document:
        """Return COMPLETED for a page that has a result: it stays readable during a refresh."""
        return _if(HAS_RESULT, PageStatus.COMPLETED, PageStatus.IN_PROGRESS)

    def _processing(self) -> Document:
        request, is_own = self.delivery.request, self._is_own()
        left_behind = {"$and": [is_own, self.delivery.redelivered, _IS_CLAIMED]}
        lost_alone = {"$and": [left_behind, {"$eq": ["$processing.alone", True]}]}
        was_suspect = {"$and": [is_own, {"$eq": ["$processing.suspect", True]}]}
        attempts = {"$max": ["$processing.attempts", request.attempt]}
        covered = [
            {"$slice": [COVERED, -KEPT_COVERED]},
            {"$setUnion": [WAITING, [request.request_id]]},
        ]
        claimed = {
            "attempts": _if(is_own, attempts, request.attempt),
            "last_request_id": request.request_id,
            "last_attempt_at": "$$NOW",
            "lease_expires_at": {"$add": ["$$NOW", round(self.lease_seconds * 1000)]},
            "last_error": {"$ifNull": ["$processing.last_error", None]},
            "claim": self.token,
            "finished": False,
            "waiting": [],
            "covered": {"$concatArrays": covered},
            # Whoever waits for a request that the last fetch has answered can still read so here.
            "answered": _if(_IS_FINISHED, COVERED, _ANSWERED),
            "alone": self.alone,
            "suspect": {"$or": [was_suspect, left_behind]},
            "lost_alone": lost_alone,
        }
        return {"$mergeObjects": ["$processing", claimed]}


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What a record becomes when the attempt of a claim has ended.

    `finishes`: the request has its outcome, and no retry is to come.
    """

    claim: Claim
    fields: Document
    finishes: bool

    @property
    def url(self) -> str:
        """The page."""
        return self.claim.url

    def write(self) -> UpdateOne:
        """Return the update, which changes nothing if the claim is void."""
        return UpdateOne(held(self.claim), released(self.claim, self.finishes, self.fields))

    def answer(self, document: Document | None) -> PageStatus | None:
        """Return the status as the record has it, None if the claim was void."""
        if document is None or document["processing"].get("ended_claim") != self.claim.token:
            return None
        return PageStatus(document["status"])


class Claims:
    """Takes claims and ends attempts in the collection of pages; raises the driver's errors.

    Requests that arrive while a write is under way are written together by the next one: with
    many pages in flight that is a fraction of the round trips.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        timeout = database.timeout_seconds
        self._claims: Batcher[ClaimRequest, Claim | Coalesced | Busy]
        self._claims = Batcher(
            _one_by_one_if_it_fails(self._claim_all), timeout_seconds=timeout, most=MAX_BATCH
        )
        self._ends: Batcher[AttemptResult, PageStatus | None]
        self._ends = Batcher(
            _one_by_one_if_it_fails(self._end_all), timeout_seconds=timeout, most=MAX_BATCH
        )

    async def claim(self, request: ClaimRequest) -> Claim | Coalesced | Busy:
        """Take a page, or say why it is not this request's to fetch."""
        return await self._claims(request)

    async def end(self, result: AttemptResult, *, is_large: bool) -> PageStatus | None:
        """Return the status as the database has it now, None if the claim is void.

        A large result is written by itself, so that no bulk gets too large.
        """
        if is_large:
            (status,) = await self._end_all([result])
            return status
        return await self._ends(result)

    async def _claim_all(
        self, requests: Sequence[ClaimRequest]
    ) -> Sequence[Claim | Coalesced | Busy]:
        writes = [request.write() for request in requests]
        # Two processes that insert the same page at once: one of them gets a duplicate key, and
        # its second try finds the record.
        for _ in range(2):
            if not await had_duplicates(self._database.pages.bulk_write(writes, ordered=False)):
                break
        documents = await self._read([request.url for request in requests])
        return [request.answer(documents.get(request.url)) for request in requests]

    async def _end_all(self, results: Sequence[AttemptResult]) -> Sequence[PageStatus | None]:
        await self._database.pages.bulk_write([result.write() for result in results], ordered=False)
        documents = await self._read([result.url for result in results])
        return [result.answer(documents.get(result.url)) for result in results]

    async def _read(self, urls: Sequence[str]) -> dict[str, Document]:
        cursor = self._database.pages.find({"url": {"$in": list(set(urls))}}, _DECIDING_FIELDS)
        return {document["url"]: document async for document in cursor}


def _one_by_one_if_it_fails(
    run: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
) -> Callable[[Sequence[T]], Awaitable[Sequence[R | BaseException]]]:
    """Write a batch again item by item if one item of it cannot be written.

    Writing the others twice changes nothing: each write checks its token.
    """

    async def run_batch(items: Sequence[T]) -> Sequence[R | BaseException]:
        try:
            return await run(items)
        except (OperationFailure, *_UNWRITABLE) as exc:
            if len(items) == 1:
                return [exc]
            if isinstance(exc, OperationFailure) and not is_of_one_write(exc):
                raise
        return [(await run_batch([item]))[0] for item in items]

    return run_batch


def held(claim: Claim) -> Document:
    """Match the page of a claim that is not void."""
    return {"url": claim.url, "processing.claim": claim.token}


def released(claim: Claim, finishes: bool, fields: Document) -> Document:  # noqa: FBT001 (named at each call)
    """Return the update that gives a claim up, and sets further fields."""
    return {
        "$set": {
            "processing.claim": None,
            "processing.ended_claim": claim.token,
            "processing.lease_expires_at": None,
            "processing.finished": finishes,
            **fields,
        },
        "$currentDate": {"updated_at": True},
    }


def _if(condition: Any, then: Any, otherwise: Any) -> Document:
    return {"$cond": [condition, then, otherwise]}
