"""The `metadata.document` of stored pages, for `pagemeta reextract` to fill anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pydantic import TypeAdapter
from pymongo.errors import OperationFailure

from app.errors import NotStorable
from app.models import Document, Header
from app.store.claims import Bson
from app.store.mongo import UNWRITABLE, is_of_one_write

RECORDS_AT_ONCE = 200

_DOCUMENT = TypeAdapter(Document)
_HEADERS = TypeAdapter(tuple[Header, ...])


@dataclass(frozen=True, slots=True)
class StoredPage:
    """What is read of a stored page to extract its document."""

    record_id: ObjectId
    url: str
    html: str
    final_url: str
    headers: tuple[Header, ...]

    body_sha256: str
    """With the time, this tells one result of the page from a later one."""

    fetched_at: datetime


class StoredDocuments:
    """The documents in a collection of page records.

    Pages are read one at a time, so memory is bounded by the largest page.
    """

    def __init__(self, pages: Any, *, html_types: tuple[str, ...], version: int) -> None:
        self._pages = pages
        self._is_html: Bson = {
            "metadata.content_type": {"$in": list(html_types)},
            "metadata.page_source": {"$type": "string"},
        }
        # `$not` finds the pages without a document too. A newer version is left alone.
        self._is_old = {"metadata.document.extractor_version": {"$not": {"$gte": version}}}

    def count_records(self) -> int:
        """Return about how many records there are."""
        return int(self._pages.estimated_document_count())

    def pages_to_read(self, *, everything: bool) -> Iterator[tuple[int, list[ObjectId]]]:
        """Return for so many records at a time how many they are, and which are to be read.

        `everything`: those with a document of this version too.
        """
        wanted = self._is_html if everything else self._is_html | self._is_old
        last = ObjectId("0" * 24)
        while ids := self._ids_after(last):
            within = {"_id": {"$gt": last, "$lte": ids[-1]}}
            yield len(ids), [it["_id"] for it in self._pages.find(within | wanted, {"_id": True})]
            last = ids[-1]

    def read(self, record_id: ObjectId) -> StoredPage | None:
        """Return a page, or None if it has no HTML any more."""
        read = ("page_source", "final_url", "headers", "body_sha256", "fetched_at")
        shown = {"url": True} | {f"metadata.{name}": True for name in read}
        record = self._pages.find_one({"_id": record_id} | self._is_html, shown)
        return _stored_page(record) if record else None

    def keep(self, page: StoredPage, document: Document) -> bool:
        """Keep the document of a page; return False if the page was fetched anew meanwhile.

        Raises `NotStorable`.
        """
        same_result = {
            "_id": page.record_id,
            "url": page.url,  # by which a sharded collection is split
            "metadata.body_sha256": page.body_sha256,
            "metadata.fetched_at": page.fetched_at,
        }
        update = {
            "$set": {"metadata.document": _DOCUMENT.dump_python(document)},
            "$inc": {"processing.revision": 1},
            "$currentDate": {"updated_at": True},
        }
        try:
            return bool(self._pages.update_one(same_result, update).matched_count)
        except (OperationFailure, *UNWRITABLE) as exc:
            if isinstance(exc, OperationFailure) and not is_of_one_write(exc):
                raise
            raise NotStorable(f"{type(exc).__name__}: {exc}"[:300]) from exc

    def _ids_after(self, last: ObjectId) -> list[ObjectId]:
        later = self._pages.find({"_id": {"$gt": last}}, {"_id": True})
        return [it["_id"] for it in later.sort("_id").limit(RECORDS_AT_ONCE)]


def _stored_page(record: Bson) -> StoredPage:
    metadata = record["metadata"]
    return StoredPage(
        record_id=record["_id"],
        url=record["url"],
        html=metadata["page_source"],
        final_url=metadata["final_url"],
        headers=_HEADERS.validate_python(metadata["headers"]),
        body_sha256=metadata["body_sha256"],
        fetched_at=metadata["fetched_at"],
    )
