"""What callers wait for: which pages have ended, and which requests have been answered.

The fields of `processing` that tell are described in `claims.py`. They are in the database alone,
so it does not matter which worker has fetched the page, and which API process took the request.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from app.models import Awaited, PageStatus
from app.store.claims import Document

_ENDED = [PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT]

_DECIDING_FIELDS = {
    "_id": False,
    "url": True,
    "status": True,
    "processing.finished": True,
    "processing.covered": True,
    "processing.answered": True,
}


async def answered(pages: Any, waits: Collection[Awaited]) -> set[Awaited]:
    """Return those waits that are over. Raises the driver's errors."""
    cursor = pages.find(_matching(waits), _DECIDING_FIELDS)
    over = {document["url"]: _over(document) async for document in cursor}
    return {it for it in waits if it.request_id in over.get(it.url, ())}


def _matching(waits: Collection[Awaited]) -> Document:
    """Match the pages where a wait may be over, so that nothing is read of all others."""
    pages = [it.url for it in waits if it.request_id is None]
    requests = [it for it in waits if it.request_id]
    request_ids = {"$in": [it.request_id for it in requests]}
    is_answered = [
        {"processing.finished": True, "processing.covered": request_ids},
        {"processing.answered": request_ids},
    ]
    return {
        "$or": [
            {"url": {"$in": pages}, "status": {"$in": _ENDED}},
            {"url": {"$in": list({it.url for it in requests})}, "$or": is_answered},
        ]
    }


def _over(document: Document) -> set[UUID | None]:
    """Return the requests for a page that are answered, and None if the page has a result."""
    processing = document["processing"]
    over: set[UUID | None] = set(processing.get("answered", ()))
    if processing.get("finished"):
        over |= set(processing.get("covered", ()))
    return over | {None} if document["status"] in _ENDED else over
