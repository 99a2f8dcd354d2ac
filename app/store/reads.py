"""Notes that pages are read, in the background: no reader waits for it, and none fails with it."""

import asyncio

from loguru import logger
from pymongo.errors import PyMongoError

from app.store.claims import Bson
from app.store.indexes import ASKED_AT, DAY_SECONDS
from app.store.mongo import Database

NOTED_AT_ONCE = 500

IS_TO_BE_NOTED = {
    # A missing field, as in the records of an older version, is less than any time.
    "$lt": [f"${ASKED_AT}", {"$subtract": ["$$NOW", DAY_SECONDS * 1000]}]
}
"""The expression for: nobody has asked for the page within a day. So reading costs at most one
write a page a day."""


class ReadNotes:
    """Moves the `asked_at` of pages that are read to the present, many by one write.

    A note that cannot be written is logged and dropped: the next reader of the page makes another.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._urls: set[str] = set()
        self._writing: asyncio.Task[None] | None = None

    def add(self, url: str) -> None:
        """Have it noted soon that a page was read."""
        self._urls.add(url)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._urls:
                urls = [self._urls.pop() for _ in range(min(len(self._urls), NOTED_AT_ONCE))]
                await self._write(urls)
        finally:
            self._writing = None

    async def _write(self, urls: list[str]) -> None:
        # Another process may have noted some of them since.
        matching = {"url": {"$in": urls}, "$expr": IS_TO_BE_NOTED}
        now: list[Bson] = [{"$set": {ASKED_AT: "$$NOW"}}]
        try:
            await self._database.pages.update_many(matching, now)
        except PyMongoError as exc:
            logger.warning("reads_not_noted", pages=len(urls), reason=type(exc).__name__)
