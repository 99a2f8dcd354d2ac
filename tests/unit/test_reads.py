"""Notes that pages are read: nobody waits for them."""

import asyncio
from typing import Any, cast

import pytest
from dirty_equals import IsPartialDict
from pymongo.errors import AutoReconnect

from app.store.mongo import Database
from app.store.reads import ReadNotes
from tests.unit.recorded import Log


class FakeDatabase:
    """Keeps what is written, once it is `answering`."""

    def __init__(self) -> None:
        self.pages = self
        self.written: list[list[str]] = []
        self.answering = asyncio.Event()
        self.failing = False

    async def update_many(self, matching: dict[str, Any], update: Any) -> None:
        assert update == [{"$set": {"asked_at": "$$NOW"}}]
        await self.answering.wait()
        if self.failing:
            raise AutoReconnect("closed")
        self.written.append(sorted(matching["url"]["$in"]))


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def notes(database: FakeDatabase) -> ReadNotes:
    return ReadNotes(cast(Database, database))


async def rounds_of_the_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_pages_that_are_read_during_a_write_are_noted_by_the_next_one(
    notes: ReadNotes, database: FakeDatabase
) -> None:
    notes.add("a")
    await rounds_of_the_loop()
    for url in ("b", "c", "b"):
        notes.add(url)
    database.answering.set()
    await rounds_of_the_loop()
    assert database.written == [["a"], ["b", "c"]]


async def test_no_write_grows_out_of_proportion(notes: ReadNotes, database: FakeDatabase) -> None:
    for number in range(1200):
        notes.add(f"{number:04}")
    database.answering.set()
    await rounds_of_the_loop()
    assert [len(urls) for urls in database.written] == [500, 500, 200]


async def test_a_note_that_cannot_be_written_is_logged_and_the_next_one_is_tried(
    notes: ReadNotes, database: FakeDatabase, log: Log
) -> None:
    database.failing = True
    database.answering.set()
    notes.add("a")
    await rounds_of_the_loop()
    assert log.one("reads_not_noted") == IsPartialDict(
        level="WARNING", pages=1, reason="AutoReconnect"
    )
    database.failing = False
    notes.add("a")
    await rounds_of_the_loop()
    assert database.written == [["a"]]
