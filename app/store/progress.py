"""How far a request, or a refresh, has come: read from the record of its page.

The fields are explained in `claims.py`.
"""

from uuid import UUID

from pydantic import TypeAdapter

from app.models import PageError, PageStatus, Refresh, RequestRecord
from app.store.claims import COVERED, Bson
from app.store.indexes import SOME_WAIT

_ERROR = TypeAdapter(PageError)


# --- A refresh ------------------------------------------------------------------------------------


def refresh_of(document: Bson) -> Refresh | None:
    """Return what is known of a refresh, if the page has a result and a refresh is not done.

    `first_waiting` of the document is the first of the requests that wait.
    """
    processing = document["processing"]
    if document["status"] != PageStatus.COMPLETED:
        return None
    if not processing.get("finished", True):
        return _latest(processing, _pending_status(processing))
    if (request_id := document.get("first_waiting")) is not None:
        since = processing.get("waiting_since")
        return Refresh(PageStatus.QUEUED, request_id, since, attempts=0, error=None)
    has_failed = processing.get("last_error") is not None
    return _latest(processing, PageStatus.FAILED_PERMANENT) if has_failed else None


def _latest(processing: Bson, status: PageStatus) -> Refresh:
    return Refresh(
        status,
        processing["last_request_id"],
        processing.get("requested_at"),
        processing["attempts"],
        error_of(processing.get("last_error")),
    )


# --- A request ------------------------------------------------------------------------------------


def mentioning(request_id: UUID) -> Bson:
    """Match the record that remembers a request."""
    waits = {"processing.waiting": request_id} | SOME_WAIT
    return {"$or": [waits, {"processing.covered.request_id": request_id}]}


def request_fields(request_id: UUID) -> Bson:
    """Return the projection that `request_record()` reads."""
    is_same = {"$eq": ["$$this.request_id", request_id]}
    entry = {"$last": {"$filter": {"input": COVERED, "as": "this", "cond": is_same}}}
    shown = ("attempts", "last_request_id", "claim", "last_error", "outcome", "outcomes")
    return {"url": True, "processing": dict.fromkeys(shown, True), "entry": entry}


def request_record(request_id: UUID, document: Bson) -> RequestRecord | None:
    """Return what became of a request, or None if its outcome is no longer remembered."""
    url, processing, entry = document["url"], document["processing"], document.get("entry")
    if entry is None:
        return RequestRecord(request_id, url, PageStatus.QUEUED, 0, None, None)
    outcomes = {it["number"]: it for it in processing.get("outcomes", ())}
    if entry["outcome"] == processing["outcome"]:
        found = _pending(processing)
    elif entry["outcome"] in outcomes:
        found = outcomes[entry["outcome"]]
    else:
        return None
    return RequestRecord(
        request_id,
        url,
        known_status(found["status"]),
        found["attempts"],
        error_of(found["error"]),
        found["request_id"],
    )


def _pending(processing: Bson) -> Bson:
    """Return how far the fetch has come that brings the next outcome, like an outcome."""
    return {
        "status": _pending_status(processing),
        "attempts": processing["attempts"],
        "error": processing["last_error"],
        "request_id": processing["last_request_id"],
    }


# --- Both -----------------------------------------------------------------------------------------


def _pending_status(processing: Bson) -> PageStatus:
    """Return how far a request has come that has no outcome yet."""
    if processing.get("claim") is not None:
        return PageStatus.IN_PROGRESS
    return PageStatus.FAILED_RETRYABLE if processing.get("last_error") else PageStatus.QUEUED


def error_of(error: Bson | None) -> PageError | None:
    """Read an error from what a record has of it."""
    return _ERROR.validate_python(error) if error else None


def as_bson(error: PageError | None) -> Bson | None:
    """Return what a record has of an error."""
    return _ERROR.dump_python(error) if error else None


def known_status(text: str) -> PageStatus | str:
    """Return a status as a record has it: text if this version does not know it."""
    try:
        return PageStatus(text)
    except ValueError:
        return text
