"""Claims on pages: one atomic write takes a page for an attempt, one ends the attempt.

What a claim decides is computed by the database, in one update pipeline, from the record alone:
which request it serves, which claim holds it, and which requests the last fetch answers. The one
clock that counts is the database's own (`$$NOW`); no time that another machine took is compared.

The fields of `processing` that decide:

    last_request_id   the request that the page was last queued or claimed for
    attempts          the number of the latest fetch for that request
    claim             the token of the claim that holds the page; null if none does
    lease_expires_at  until when that claim keeps other requests out
    ended_claim       the token of the claim that was given up last
    finished          whether the last request has its outcome; false while a retry is to come
    waiting           accepted requests that no fetch has begun for yet
    covered           requests that were accepted before the latest fetch began, so it answers them:
                      {request_id, outcome}, the number of the outcome that is their answer
    outcome           the number of the next outcome: how many outcomes the page has had
    alone             whether the holder fetches nothing beside this page
    suspect           whether a worker died while it fetched the page for this request
    lost_alone        whether that worker fetched nothing beside it, so that the page is to blame

Those that only tell what has happened:

    waiting_since     when the first of the waiting requests was noted
    requested_at      when what is being fetched was asked for
    outcomes          the latest outcomes: {number, request_id, status, attempts, error, event}
    validators        what the server gave with the result, and the SHA-256 of that result's body
    revision          grows with each change that a reader of the record can see
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from pymongo import UpdateOne
from pymongo.errors import OperationFailure

from app.models import (
    ENDED_STATUSES,
    Busy,
    Claim,
    Coalesced,
    Delivery,
    PageStatus,
    StoredResult,
    Validators,
)
from app.search import search_terms
from app.store.batching import Batcher
from app.store.indexes import ASKED_AT
from app.store.mongo import UNWRITABLE, Database, is_of_one_write, write_all
from app.urls import host_of

T = TypeVar("T")
R = TypeVar("R")
Bson = dict[str, Any]
"""A document of MongoDB, or a filter, update or expression about one."""

MAX_BATCH = 50

MAX_WAITING = 1000
"""How many waiting requests a record lists. Requests beyond it are not listed, so each gets a fetch
of its own."""

KEPT_COVERED = 50
"""How many covered requests of earlier fetches stay listed when a new fetch begins. They tell a
late `note_queued` that its request was handled long ago, and find the outcome of a request."""

KEPT_OUTCOMES = 10
"""How many outcomes of a page are remembered."""

_DECIDING_FIELDS = {
    "url": True,
    "status": True,
    **{
        f"metadata.{name}": True
        for name in (
            *("final_url", "status_code", "content_type", "document.title"),
            *("body_sha256", "fetched_at"),
        )
    },
    **{
        f"processing.{name}": True
        for name in (
            *("attempts", "last_request_id", "claim", "ended_claim", "finished"),
            *("covered.request_id", "outcome", "validators", "lost_alone"),
        )
    },
}

IS_DELETED = {"$eq": ["$status", PageStatus.DELETED]}
IS_KNOWN = {"status": {"$ne": PageStatus.DELETED}}
"""Matches the records that readers see."""
HAS_RESULT = {"$eq": ["$status", PageStatus.COMPLETED]}
COVERED = {"$ifNull": ["$processing.covered", []]}
WAITING = {"$ifNull": ["$processing.waiting", []]}
OUTCOME = {"$ifNull": ["$processing.outcome", 0]}
NEXT_REVISION = {"$add": [{"$ifNull": ["$processing.revision", 0]}, 1]}
_TOKEN = {"$ifNull": ["$processing.claim", None]}
_IS_CLAIMED = {"$ne": [_TOKEN, None]}
IS_HELD = {"$and": [_IS_CLAIMED, {"$gt": ["$processing.lease_expires_at", "$$NOW"]}]}
IS_FINISHED = {
    # Records of version 0.1.0 do not have the field.
    "$ifNull": [
        "$processing.finished",
        {"$in": ["$status", ENDED_STATUSES]},
    ]
}


def is_finished(document: Bson) -> bool:
    """Say of a record that was read what `IS_FINISHED` says of it in the database."""
    finished: bool = document["processing"].get("finished", document["status"] in ENDED_STATUSES)
    return finished


def is_covered(request_id: UUID) -> Bson:
    """Return the expression for: the latest fetch began after this request was accepted."""
    return {"$in": [request_id, {"$ifNull": ["$processing.covered.request_id", []]}]}


def record_head(url: str) -> Bson:
    """Return the fields that the first write of a record sets and later ones keep.

    The first write after a deletion is one too.
    """
    host = host_of(url)
    return {
        "host": {"$ifNull": ["$host", {"$literal": host}]},
        "search": {"$ifNull": ["$search", {"$literal": search_terms(host, None)}]},
        "metadata": {"$ifNull": ["$metadata", None]},
        "created_at": _if(IS_DELETED, "$$NOW", {"$ifNull": ["$created_at", "$$NOW"]}),
    }


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

    def update(self) -> UpdateOne:
        """Return the update that grants the claim, or leaves the record as it is."""
        granted = self._is_granted()
        request = self.delivery.request
        update = {
            "status": _if(granted, self._status(), "$status"),
            **record_head(self.url),
            "processing": _if(granted, self._processing(), "$processing"),
            "updated_at": _if(granted, "$$NOW", "$updated_at"),
            # A result that is fetched again is not to be removed meanwhile, for nobody could store
            # what the fetch brings. The request may have been accepted while the database was away.
            ASKED_AT: _if(granted, "$$NOW", f"${ASKED_AT}"),
        }
        return UpdateOne({"url": request.url}, [{"$set": update}], upsert=True)

    def answer(self, document: Bson | None) -> Claim | Coalesced | Busy:
        """Read from the record what became of the request for a claim."""
        if document is None:  # deleted since: ask again later
            return Busy()
        request, processing = self.delivery.request, document["processing"]
        if processing.get("claim") == self.token:
            return _claim(document)
        # Records of version 0.1.0 have no such list: their last request is the covered one.
        of_0_1_0 = [{"request_id": processing.get("last_request_id")}]
        covered = [it["request_id"] for it in processing.get("covered", of_0_1_0)]
        # The record may have changed after the refusal. Only a covered request is answered; any
        # other one asks again.
        if request.request_id not in covered:
            return Busy()
        return Coalesced("answered" if is_finished(document) else "in_progress")

    def _is_own(self) -> Bson:
        return {"$eq": ["$processing.last_request_id", self.delivery.request.request_id]}

    def _is_granted(self) -> Bson:
        """Return the condition under which the page is claimed.

        Its own request claims it again for a later attempt, and takes over what an earlier
        delivery has left behind. Another request claims it when nobody holds it, unless a fetch
        that covers the request has answered it, or a retry of that fetch will.
        """
        request, delivery = self.delivery.request, self.delivery
        takes_over = delivery.redelivered or delivery.deferrals > 0
        is_left = {"$or": [{"$not": [IS_HELD]}, takes_over]}
        own = {
            "$or": [
                {"$lt": ["$processing.attempts", request.attempt]},
                {"$and": [{"$not": [IS_FINISHED]}, is_left]},
            ]
        }
        lease_is_over = {"$and": [{"$not": [IS_FINISHED]}, _IS_CLAIMED]}
        other = {
            "$and": [
                {"$not": [IS_HELD]},
                {"$or": [{"$not": [is_covered(request.request_id)]}, lease_is_over]},
            ]
        }
        # A write that the driver sends twice must not take its own claim over.
        is_new = {"$ne": [_TOKEN, self.token]}
        return {"$and": [is_new, _if(self._is_own(), own, other)]}

    def _status(self) -> Bson:
        """Return COMPLETED for a page that has a result: it stays readable during a refresh."""
        return _if(HAS_RESULT, PageStatus.COMPLETED, PageStatus.IN_PROGRESS)

    def _processing(self) -> Bson:
        request, is_own = self.delivery.request, self._is_own()
        left_behind = {"$and": [is_own, self.delivery.redelivered, _IS_CLAIMED]}
        lost_alone = {"$and": [left_behind, {"$eq": ["$processing.alone", True]}]}
        was_suspect = {"$and": [is_own, {"$eq": ["$processing.suspect", True]}]}
        attempts = {"$max": ["$processing.attempts", request.attempt]}
        last_error = {"$ifNull": ["$processing.last_error", None]}
        asked_for = _if({"$eq": [WAITING, []]}, "$$NOW", "$processing.waiting_since")
        claimed = {
            "attempts": _if(is_own, attempts, request.attempt),
            "last_request_id": request.request_id,
            "requested_at": _if(
                is_own, {"$ifNull": ["$processing.requested_at", asked_for]}, asked_for
            ),
            "last_attempt_at": "$$NOW",
            "lease_expires_at": {"$add": ["$$NOW", round(self.lease_seconds * 1000)]},
            "last_error": _if(is_own, last_error, None),
            "claim": self.token,
            "finished": False,
            "waiting": [],
            "covered": covering([request.request_id]),
            "outcome": OUTCOME,
            "alone": self.alone,
            "suspect": {"$or": [was_suspect, left_behind]},
            "lost_alone": lost_alone,
            "revision": NEXT_REVISION,
        }
        return {"$mergeObjects": ["$processing", claimed]}


def covering(requests: Any, *, keeps_all: bool = False) -> Bson:
    """Return the latest requests that were covered before, or all, then those that are now.

    Those are the waiting ones, and `requests`: an expression, or a list of request ids.
    """
    now_covered = {"$setUnion": [WAITING, requests]}
    is_listed_below = {"$in": ["$$this.request_id", now_covered]}
    earlier = {"$filter": {"input": COVERED, "as": "this", "cond": {"$not": [is_listed_below]}}}
    entry = {"request_id": "$$this", "outcome": OUTCOME}
    added = {"$map": {"input": now_covered, "as": "this", "in": entry}}
    kept = earlier if keeps_all else {"$slice": [earlier, -KEPT_COVERED]}
    return {"$concatArrays": [kept, added]}


def _claim(document: Bson) -> Claim:
    processing = document["processing"]
    refreshes = document["status"] == PageStatus.COMPLETED
    result = _stored_result(document.get("metadata") or {}) if refreshes else None
    return Claim(
        url=document["url"],
        request_id=processing["last_request_id"],
        attempt=processing["attempts"],
        refreshes=refreshes,
        token=processing["claim"],
        lost_alone=processing["lost_alone"],
        outcome=processing["outcome"],
        result=result,
        validators=_validators(processing, result.body_sha256) if result else None,
    )


def _stored_result(metadata: Bson) -> StoredResult:
    """Return what is read of a result. An older version may have stored less."""
    return StoredResult(
        final_url=metadata.get("final_url"),
        status_code=metadata.get("status_code"),
        content_type=metadata.get("content_type"),
        title=(metadata.get("document") or {}).get("title"),
        body_sha256=metadata.get("body_sha256"),
        fetched_at=metadata.get("fetched_at"),
    )


def _validators(processing: Bson, body_sha256: str | None) -> Validators | None:
    """Return the validators of a record if they belong to the result that it has.

    An older version, or an operator, may have replaced the result and left them.
    """
    kept = processing.get("validators") or {}
    if body_sha256 is None or kept.get("body_sha256") != body_sha256:
        return None
    return Validators(kept["url"], kept["etag"], kept["last_modified"])


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What a record becomes when the attempt of a claim has ended.

    `outcome` is that of the request, or None if a retry is to come. `checks`: the result was
    stored or confirmed by this attempt. `result_is` matches the result that is to be there.
    """

    claim: Claim
    fields: Bson
    outcome: Bson | None = None
    checks: bool = False
    result_is: Bson = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The page."""
        return self.claim.url

    @property
    def status(self) -> PageStatus:
        """The status that this writes."""
        return PageStatus(self.fields["status"])

    def update(self) -> UpdateOne:
        """Return the update, which changes nothing if the claim is void."""
        update = released(self.claim, self.fields, self.outcome, checks=self.checks)
        return UpdateOne(held(self.claim) | self.result_is, update)

    def answer(self, document: Bson | None) -> PageStatus | None:
        """Return the status that was written, None if the claim was void."""
        if document is None or document["processing"].get("ended_claim") != self.claim.token:
            return None
        return self.status


_Write = ClaimRequest | AttemptResult


class Claims:
    """Takes claims and ends attempts in the collection of pages; raises the driver's errors.

    Writes of both kinds that arrive while others are under way are sent together, as one bulk:
    with many pages in flight that is a fraction of the round trips.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._write: Batcher[_Write, Any]
        self._write = Batcher(
            _one_by_one_if_it_fails(self._write_all),
            timeout_seconds=database.timeout_seconds,
            most=MAX_BATCH,
        )

    async def claim(self, request: ClaimRequest) -> Claim | Coalesced | Busy:
        """Take a page, or say why it is not this request's to fetch."""
        answer: Claim | Coalesced | Busy = await self._write(request)
        return answer

    async def end(self, result: AttemptResult, *, is_large: bool) -> PageStatus | None:
        """Return the status of the page, None if the claim is void.

        A large result is written by itself, so that no bulk gets too large.
        """
        status: PageStatus | None
        if is_large:
            (status,) = await self._write_all([result])
        else:
            status = await self._write(result)
        return status

    async def _write_all(self, writes: Sequence[_Write]) -> Sequence[Any]:
        """Write a bulk, and read the records of which its answer does not say enough.

        The answer counts the writes that found what they were to change. If all did, each result
        is stored. What a claim was given has to be read in any case.
        """
        all_applied = await write_all(self._database.pages, [write.update() for write in writes])
        read = ClaimRequest if all_applied else (ClaimRequest, AttemptResult)
        documents = await self._read({write.url for write in writes if isinstance(write, read)})
        return [
            write.status
            if all_applied and isinstance(write, AttemptResult)
            else write.answer(documents.get(write.url))
            for write in writes
        ]

    async def _read(self, urls: Collection[str]) -> dict[str, Bson]:
        if not urls:
            return {}
        found = {"url": {"$in": list(urls)}}
        cursor = self._database.pages.find(found, _DECIDING_FIELDS)
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
        except (OperationFailure, *UNWRITABLE) as exc:
            if len(items) == 1:
                return [exc]
            if isinstance(exc, OperationFailure) and not is_of_one_write(exc):
                raise
        return [(await run_batch([item]))[0] for item in items]

    return run_batch


def held(claim: Claim) -> Bson:
    """Match the page of a claim that is not void."""
    return {"url": claim.url, "processing.claim": claim.token}


def released(
    claim: Claim, fields: Bson, outcome: Bson | None = None, *, checks: bool = False
) -> Bson:
    """Return the update that gives a claim up, and sets further fields."""
    times = {"updated_at": True} | ({"checked_at": True} if checks else {})
    update: Bson = {
        "$set": {
            "processing.claim": None,
            "processing.ended_claim": claim.token,
            "processing.lease_expires_at": None,
            "processing.finished": outcome is not None,
            **fields,
        },
        "$inc": {"processing.revision": 1},
        "$currentDate": times,
    }
    if outcome is not None:
        entry = {"number": claim.outcome, "request_id": claim.request_id, **outcome}
        update["$inc"]["processing.outcome"] = 1
        update["$push"] = {"processing.outcomes": {"$each": [entry], "$slice": -KEPT_OUTCOMES}}
    return update


def _if(condition: Any, then: Any, otherwise: Any) -> Bson:
    return {"$cond": [condition, then, otherwise]}
