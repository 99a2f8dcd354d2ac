"""Makes one record of two that were kept for the same page. The fields are those of `claims.py`.

Nobody may be at work on either: see `at_rest()` in `spellings.py`.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.models import ENDED_STATUSES, PageStatus
from app.store.claims import Bson


def merged(target: Bson, other: Bson) -> Bson:
    """Return what the record `target` becomes when it takes over what `other` has.

    The newer result is kept. So is the outcome of each request that either record remembers, and a
    request without an outcome waits for the next fetch. To merge the same records again changes
    nothing but the revision.
    """
    newer = max((target, other), key=_rank)
    requests = _joined(_requests_of(target), _requests_of(other))
    processing = {
        **newer["processing"],
        "covered": requests.covered,
        "outcomes": requests.outcomes,
        "outcome": requests.next_number,
        "waiting": requests.unanswered,
        "waiting_since": _waiting_since(target, other),
        "claim": None,
        "lease_expires_at": None,
        "finished": True,
        "revision": 1 + max(_number(target, "revision"), _number(other, "revision")),
    }
    record = {
        **newer,
        "_id": target["_id"],
        "url": target["url"],
        "host": target["host"],
        "created_at": min(target["created_at"], other["created_at"]),
        "processing": processing,
    }
    return record if newer["status"] == PageStatus.COMPLETED else _queued_if_any_wait(record)


def _rank(record: Bson) -> tuple[Any, ...]:
    """Return what is greater for the record whose result is to be kept."""
    status, metadata = record["status"], record.get("metadata") or {}
    # Version 0.1.0 did not write `checked_at`.
    since = record.get("checked_at") or metadata.get("fetched_at") or record["updated_at"]
    return (status == PageStatus.COMPLETED, status in ENDED_STATUSES, since)


def _queued_if_any_wait(record: Bson) -> Bson:
    """Return a record without result as QUEUED if a request waits: a failed one is not fetched."""
    waiting = record["processing"]["waiting"]
    if not waiting:
        return record
    queued = {
        "attempts": 0,
        "last_request_id": waiting[0],
        "last_attempt_at": None,
        "last_error": None,
        "finished": False,
        "suspect": False,
    }
    return record | {"status": PageStatus.QUEUED, "processing": record["processing"] | queued}


def _waiting_since(target: Bson, other: Bson) -> Any:
    times = [it["processing"].get("waiting_since") or it["updated_at"] for it in (target, other)]
    return min(times)


def _number(record: Bson, name: str) -> int:
    return record["processing"].get(name) or 0


# --- Requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Requests:
    """The requests that a record remembers.

    `covered` lists those that have their outcome, whose number each entry names. `unanswered` are
    those that have none: they wait, or their fetch has not ended.
    """

    covered: list[Bson]
    outcomes: list[Bson]
    unanswered: list[UUID]
    next_number: int


def _requests_of(record: Bson) -> _Requests:
    processing = record["processing"]
    if processing.get("covered") is None:
        processing = processing | _of_version_0_1_0(record)
    next_number = processing.get("outcome") or 0
    covered = processing["covered"]
    pending = [it["request_id"] for it in covered if it["outcome"] == next_number]
    return _Requests(
        covered=[it for it in covered if it["outcome"] != next_number],
        outcomes=processing.get("outcomes") or [],
        unanswered=[*pending, *(processing.get("waiting") or [])],
        next_number=next_number,
    )


def _of_version_0_1_0(record: Bson) -> Bson:
    """Return what a record of version 0.1.0 says of its only request, as newer records say it."""
    processing, has_ended = record["processing"], record["status"] in ENDED_STATUSES
    request_id, error = processing["last_request_id"], processing.get("last_error")
    outcome = {
        "number": 0,
        "request_id": request_id,
        # A refresh that has failed leaves the page COMPLETED.
        "status": PageStatus.FAILED_PERMANENT if error else record["status"],
        "attempts": processing["attempts"],
        "error": error,
    }
    return {
        "covered": [{"request_id": request_id, "outcome": 0}],
        "outcomes": [outcome] if has_ended else [],
        "outcome": int(has_ended),
    }


def _joined(target: _Requests, other: _Requests) -> _Requests:
    """Return the requests of both. Those of `other` come first, as the older ones.

    The number of an outcome is its key within a record, so those of `other` get numbers below all
    that `target` has.
    """
    known = {it["request_id"] for it in target.covered}
    new = [it for it in other.covered if it["request_id"] not in known]
    wanted = {it["outcome"] for it in new}
    outcomes = [it for it in other.outcomes if it["number"] in wanted]
    used = [it["outcome"] for it in target.covered] + [it["number"] for it in target.outcomes]
    shift = min([0, *used]) - other.next_number
    covered = [it | {"outcome": it["outcome"] + shift} for it in new] + target.covered
    answered = {it["request_id"] for it in covered}
    unanswered = dict.fromkeys([*other.unanswered, *target.unanswered])
    return _Requests(
        covered=covered,
        outcomes=[it | {"number": it["number"] + shift} for it in outcomes] + target.outcomes,
        unanswered=[request_id for request_id in unanswered if request_id not in answered],
        next_number=target.next_number,
    )
