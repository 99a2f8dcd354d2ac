"""The indexes of the pages, and who makes them: a process that starts, or `pagemeta migrate`."""

from collections.abc import Collection, Mapping
from typing import Any

from loguru import logger
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import OperationFailure

from app.models import ENDED_STATUSES, PageStatus

DAY_SECONDS = 24 * 3600

# --- Indexes of which not all records are part ----------------------------------------------------

SOME_WAIT = {"processing.waiting.0": {"$exists": True}}
"""Matches the records with waiting requests. The index of these requests has only such records, and
serves only queries that name this condition."""

SOME_UNPUBLISHED = {"unpublished.0": {"$exists": True}}
"""Matches the records with events that are to be published; for their index as `SOME_WAIT` is."""

UNPUBLISHED = "unpublished.event_id"
"""The ids of these events, which are the key of that index."""

UNPUBLISHED_INDEX = f"{UNPUBLISHED}_1"
"""The name that the driver gives that index."""

DELETED_KEPT_SECONDS = 7 * DAY_SECONDS
"""How long the record of a deleted page is kept, so that no message that was on its way when the
page was deleted has it fetched again. The database removes the record then."""

ASKED_AT = "asked_at"
"""When a page was last asked for, within a day. The index of this field removes results."""

RETENTION_INDEX = f"{ASKED_AT}_1"
"""The name that the driver gives that index."""

_INDEX_NOT_FOUND = 27

# --- Indexes of lists -----------------------------------------------------------------------------

SMALL_COLLECTION = 100_000
"""Up to so many records a process makes missing indexes of lists when it starts, which takes
seconds. Making them for more would keep it from its work: then `pagemeta migrate` has to."""

_NEWEST_FIRST = [("created_at", DESCENDING), ("_id", DESCENDING)]

LISTING_INDEXES: dict[str, list[tuple[str, int]]] = {
    # The last keys of the first and of the last one save reading records that have not changed
    # since a given time, or have another status.
    "listed_by_status": [("status", ASCENDING), *_NEWEST_FIRST, ("updated_at", ASCENDING)],
    "listed_by_host": [("host", ASCENDING), ("status", ASCENDING), *_NEWEST_FIRST],
    "listed_by_change": [("updated_at", DESCENDING), ("status", ASCENDING), *_NEWEST_FIRST],
    "listed_by_term": [("search", ASCENDING), *_NEWEST_FIRST, ("status", ASCENDING)],
}
"""The keys of each index by its name. `GET /metadata/pages` needs all of them."""


BY_URL = "url_1"
"""The name of the index of URLs, for queries of known pages that ask for their status too. Without
it MongoDB would try the indexes of lists as well, and might read every page of that status."""


async def prepare_indexes(pages: Any, retention_days: int) -> None:
    """Make what is missing, less the indexes of lists where the collection is large."""
    await pages.create_index("url", unique=True)
    await pages.create_index("created_at")
    # By these two a request is found by its id. Most records have no waiting request.
    await pages.create_index("processing.waiting", partialFilterExpression=SOME_WAIT)
    await pages.create_index("processing.covered.request_id")
    await pages.create_index(UNPUBLISHED, partialFilterExpression=SOME_UNPUBLISHED)
    await pages.create_index(
        "deleted_at",
        expireAfterSeconds=DELETED_KEPT_SECONDS,
        partialFilterExpression={"status": PageStatus.DELETED},
    )
    there = await pages.index_information()
    await _prepare_retention(pages, there, retention_days)
    if missing := missing_indexes(there):
        await _prepare_lists(pages, missing)


async def _prepare_lists(pages: Any, missing: list[str]) -> None:
    if await pages.estimated_document_count() > SMALL_COLLECTION:
        logger.warning("indexes_missing", indexes=missing, advice="run `pagemeta migrate`")
        return
    await pages.create_indexes([listing_index(name) for name in missing])


def listing_index(name: str) -> IndexModel:
    """Return an index of lists as the driver makes it."""
    return IndexModel(LISTING_INDEXES[name], name=name)


def missing_indexes(there: Collection[str]) -> list[str]:
    """Return the names of the indexes of lists that are not among those of the collection."""
    return [name for name in LISTING_INDEXES if name not in there]


# --- Retention ------------------------------------------------------------------------------------


async def _prepare_retention(pages: Any, there: Mapping[str, Mapping[str, Any]], days: int) -> None:
    """Have the index that removes results as the setting says: made, made anew, or dropped.

    It is made anew because `collMod`, which would change it, needs a right beyond readWrite.
    Processes that start at once may drop it twice, and one of them then connects once more.
    """
    if days_of_retention(there) not in {0, days}:
        await _drop_index(pages, RETENTION_INDEX)
    if days:
        await pages.create_index(
            ASKED_AT,
            expireAfterSeconds=(days + 1) * DAY_SECONDS,
            partialFilterExpression={"status": {"$in": list(ENDED_STATUSES)}},
        )


async def _drop_index(pages: Any, name: str) -> None:
    try:
        await pages.drop_index(name)
    except OperationFailure as exc:
        if exc.code != _INDEX_NOT_FOUND:  # another process has dropped it
            raise


def days_of_retention(indexes: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the days for which the index that removes results was made; 0 if there is none.

    It waits a day longer, because `asked_at` may be a day too early: see `reads.py`.
    """
    index = indexes.get(RETENTION_INDEX)
    return round(index.get("expireAfterSeconds", 0) / DAY_SECONDS) - 1 if index else 0
