"""Makes the indexes of lists and fills in the field that they need, for `pagemeta migrate`."""

from pymongo import UpdateOne
from pymongo.collection import Collection

from app.search import search_terms
from app.store.claims import IS_KNOWN, Bson
from app.store.indexes import listing_index, missing_indexes
from app.urls import host_of

BATCH = 1000

_WITHOUT_TERMS: Bson = IS_KNOWN | {"search": None}
"""An index has these records side by side."""


class MissingIndexes:
    """The indexes of lists that are missing. On a large collection each takes minutes to make."""

    def __init__(self, pages: Collection[Bson]) -> None:
        self._pages = pages

    def count(self) -> int:
        """Return how many there are."""
        return len(missing_indexes(self._pages.index_information()))

    def fill_in(self) -> None:
        """Make them. Others may read and write meanwhile."""
        for name in missing_indexes(self._pages.index_information()):
            self._pages.create_indexes([listing_index(name)])


class Unlisted:
    """The records without the terms under which they are found: those of older versions."""

    def __init__(self, pages: Collection[Bson]) -> None:
        self._pages = pages

    def count(self) -> int:
        """Return how many there are."""
        return self._pages.count_documents(_WITHOUT_TERMS)

    def fill_in(self) -> None:
        """Give each its terms. One that is written meanwhile has them already."""
        shown = {"url": True, "metadata.document.title": True}
        while found := list(self._pages.find(_WITHOUT_TERMS, shown).limit(BATCH)):
            self._pages.bulk_write([_with_terms(record) for record in found], ordered=False)


def _with_terms(record: Bson) -> UpdateOne:
    title = ((record.get("metadata") or {}).get("document") or {}).get("title")
    terms = search_terms(host_of(str(record["url"])), title if isinstance(title, str) else None)
    return UpdateOne({"_id": record["_id"], "search": None}, {"$set": {"search": terms}})
