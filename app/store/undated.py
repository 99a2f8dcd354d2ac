"""Dates the records of older versions, for `pagemeta migrate`.

They do not say when their page was last asked for, and the index that removes results leaves out
records that do not say it.
"""

from collections.abc import Iterator
from typing import Any

from pymongo.collection import Collection

from app.store.blocking import in_batches
from app.store.claims import Bson
from app.store.indexes import ASKED_AT

BATCH = 1000


class Undated:
    """The records that do not say when their page was last asked for."""

    def __init__(self, pages: Collection[Bson]) -> None:
        self._pages = pages

    def count(self) -> int:
        """Return how many there are."""
        return sum(map(len, self._batches()))

    def fill_in(self) -> None:
        """Have them say that their pages were asked for now, by the clock of the database."""
        for records in self._batches():
            undated = {"_id": {"$in": records}, ASKED_AT: None}
            self._pages.update_many(undated, [{"$set": {ASKED_AT: "$$NOW"}}])

    def _batches(self) -> Iterator[list[Any]]:
        """Yield their keys. MongoDB has no index of them, so every record is looked at."""
        shown: Bson = {"is_dated": {"$eq": [{"$type": f"${ASKED_AT}"}, "date"]}}
        for found in in_batches(self._pages, shown, BATCH, key="_id"):
            if undated := [record["_id"] for record in found if not record["is_dated"]]:
                yield undated
