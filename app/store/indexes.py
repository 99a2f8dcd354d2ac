"""The indexes by which `GET /metadata/pages` lists records, and who makes them.

A process that starts makes them while the collection is small, which takes seconds. Where it is
large that would keep the process from its work, so `pagemeta migrate` makes them beside it.
"""

from collections.abc import Collection as Names
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

SMALL_COLLECTION = 100_000
"""Up to so many records a process makes missing indexes when it starts."""

_NEWEST_FIRST = [("created_at", DESCENDING), ("_id", DESCENDING)]

LISTING_INDEXES: dict[str, list[tuple[str, int]]] = {
    # `updated_at` at the end saves reading the records that have not changed since a given time.
    "listed_by_status": [("status", ASCENDING), *_NEWEST_FIRST, ("updated_at", ASCENDING)],
    "listed_by_host": [("host", ASCENDING), ("status", ASCENDING), *_NEWEST_FIRST],
    "listed_by_change": [("updated_at", DESCENDING), ("status", ASCENDING), *_NEWEST_FIRST],
    "listed_by_term": [("search", ASCENDING), *_NEWEST_FIRST],
}
"""The keys of each index by its name."""


def listing_index(name: str) -> IndexModel:
    """Return an index as the driver makes it."""
    return IndexModel(LISTING_INDEXES[name], name=name)


def missing_indexes(there: Names[str]) -> list[str]:
    """Return the names of those that are not among the indexes of the collection."""
    return [name for name in LISTING_INDEXES if name not in there]


async def make_listing_indexes(pages: Any) -> bool:
    """Make what is missing if the collection is small. False if `pagemeta migrate` has to."""
    missing = missing_indexes(await pages.index_information())
    if not missing:
        return True
    if await pages.estimated_document_count() > SMALL_COLLECTION:
        return False
    await pages.create_indexes([listing_index(name) for name in missing])
    return True
