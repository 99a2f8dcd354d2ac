"""Every stored page once more, for `pagemeta reextract`.

It runs beside API and workers: a document is kept only with the result that it was read from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pymongo.collection import Collection

from app.errors import UnreadableRecord
from app.models import Document, Header
from app.search import search_terms
from app.store.blocking import in_batches
from app.store.claims import Bson
from app.store.mongo import not_storable_told
from app.urls import host_of

BATCH = 100
"""How many records are looked at by one query, which reads little of each."""

_DOCUMENT = TypeAdapter(Document)


@dataclass(frozen=True, slots=True)
class Head:
    """The little that says whether a page is to be read anew. `record` is the key of its record."""

    record: Any
    content_type: str | None
    extractor_version: int | None


@dataclass(frozen=True, slots=True)
class Source:
    """What a document is read from, and the time of the fetch that brought it."""

    record: Any
    url: str
    final_url: str
    headers: tuple[Header, ...]
    page_source: str
    fetched_at: datetime


_SOURCE = TypeAdapter(Source)


class StoredPages:
    """The records, one batch after another in the order of their keys."""

    def __init__(self, pages: Collection[Bson]) -> None:
        self._pages = pages

    def count(self) -> int:
        """Return about how many records there are."""
        return self._pages.estimated_document_count()

    def batches(self) -> Iterator[Sequence[Head]]:
        """Yield the heads of all records, some at a time."""
        fields = ("metadata.content_type", "metadata.document.extractor_version")
        for found in in_batches(self._pages, dict.fromkeys(fields, True), BATCH, key="_id"):
            yield [_head(record) for record in found]

    def source(self, head: Head) -> Source | None:
        """Return what a page is read from, or None if it has no stored source or is gone.

        Raises `UnreadableRecord`.
        """
        fields = ("final_url", "headers", "page_source", "fetched_at")
        shown = {"url": True, **{f"metadata.{name}": True for name in fields}}
        record = self._pages.find_one({"_id": head.record}, shown) or {}
        if (record.get("metadata") or {}).get("page_source") is None:
            return None
        try:
            return _SOURCE.validate_python(
                {**record["metadata"], "record": record["_id"], "url": record["url"]}
            )
        except ValidationError as exc:
            raise UnreadableRecord(str(exc)) from exc

    def keep(self, source: Source, document: Document) -> bool:
        """Keep the document of a page, unless the page was fetched again since: False then.

        Raises `NotStorable` if the record would get too large.
        """
        same_result = {"_id": source.record, "metadata.fetched_at": source.fetched_at}
        change = {
            "$set": {
                "metadata.document": _DOCUMENT.dump_python(document),
                "search": search_terms(host_of(source.url), document.title),
            },
            "$inc": {"processing.revision": 1},
            "$currentDate": {"updated_at": True},
        }
        with not_storable_told():
            return bool(self._pages.update_one(same_result, change).matched_count)


def _head(record: Bson) -> Head:
    metadata = record.get("metadata") or {}
    document = metadata.get("document") or {}
    return Head(record["_id"], metadata.get("content_type"), document.get("extractor_version"))
