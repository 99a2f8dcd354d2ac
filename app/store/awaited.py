"""What callers wait for: which pages have ended, and which requests have been answered.

The fields of `processing` that tell are described in `claims.py`. They are in the database alone,
so it does not matter which worker has fetched the page, and which API process took the request.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from app.models import ENDED_STATUSES, Awaited
from app.store.claims import COVERED, Bson
from app.store.indexes import BY_URL

_HAS_OUTCOME = {"$lt": ["$$this.outcome", "$processing.outcome"]}
_WITH_OUTCOME = {"$filter": {"input": COVERED, "as": "this", "cond": _HAS_OUTCOME}}

_DECIDING_FIELDS = {
    "_id": False,
    "url": True,
    "status": True,
    "answered": {"$map": {"input": _WITH_OUTCOME, "as": "this", "in": "$$this.request_id"}},
}


async def answered(pages: Any, waits: Collection[Awaited]) -> set[Awaited]:
    """Return those waits that are over. Raises the driver's errors."""
    cursor = pages.find(_matching(waits), _DECIDING_FIELDS, hint=BY_URL)
    over = {document["url"]: _over(document) async for document in cursor}
    return {it for it in waits if it.request_id in over.get(it.url, ())}


def _matching(waits: Collection[Awaited]) -> Bson:
    """Match the pages where a wait may be over, so that nothing is read of all others."""
    pages = [it.url for it in waits if it.request_id is None]
    requests = [it for it in waits if it.request_id]
    is_covered = {"processing.covered.request_id": {"$in": [it.request_id for it in requests]}}
    return {
        "$or": [
            {"url": {"$in": pages}, "status": {"$in": ENDED_STATUSES}},
            {"url": {"$in": list({it.url for it in requests})}} | is_covered,
        ]
    }


def _over(document: Bson) -> set[UUID | None]:
    """Return the requests for a page that are answered, and None if the page has a result."""
    over: set[UUID | None] = set(document["answered"])
    return over | {None} if document["status"] in ENDED_STATUSES else over
