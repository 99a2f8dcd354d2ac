"""Fills in what lists need and older versions did not write, for `pagemeta migrate`."""

from pymongo import UpdateOne
from pymongo.collection import Collection

from app.search import search_terms
from app.store.claims import IS_KNOWN, Bson
from app.store.indexes import listing_index, missing_indexes
from app.urls import host_of

BATCH = 1000

_WITHOUT_TERMS: Bson = IS_KNOWN | {"search": None}
"""An index has these records side by side."""


class Unlisted:
    """The indexes that are missing, and the records that no search finds."""

    def __init__(self, pages: Collection[Bson]) -> None:
        self._pages = pages

    def count_indexes(self) -> int:
        """Return how many indexes are missing."""
        return len(missing_indexes(self._pages.index_information()))

    def count_records(self) -> int:
        """Return how many records do not have the terms under which they are found."""
        return self._pages.count_documents(_WITHOUT_TERMS)

    def make_indexes(self) -> None:
        """Make the missing indexes. On a large collection each takes minutes; others may write."""
        for name in missing_indexes(self._pages.index_information()):
            self._pages.create_indexes([listing_index(name)])

    def fill_in(self) -> None:
        """Give each record its terms. Those that somebody else writes meanwhile have them."""
        shown = {"url": True, "metadata.document.title": True}
        while found := list(self._pages.find(_WITHOUT_TERMS, shown).limit(BATCH)):
            self._pages.bulk_write([_with_terms(record) for record in found], ordered=False)


def _with_terms(record: Bson) -> UpdateOne:
    document = (record.get("metadata") or {}).get("document") or {}
    terms = search_terms(host_of(record["url"]), document.get("title"))
    return UpdateOne({"_id": record["_id"], "search": None}, {"$set": {"search": terms}})
