"""The connection to MongoDB: its backoff, its bounds, and its errors in our words."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from bson.errors import InvalidDocument
from dirty_equals import IsInstance, IsPartialDict
from pymongo import IndexModel, UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    CollectionInvalid,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidURI,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
)
from pymongo.results import BulkWriteResult

from app.errors import DatabaseUnreachable, NotStorable, StoreUnavailable
from app.retries import Backoff
from app.store.blocking import keys_of, pages_of
from app.store.indexes import LISTING_INDEXES
from app.store.inspection import database_facts
from app.store.mongo import (
    CommandTimer,
    Database,
    DatabaseState,
    translated_errors,
    write_all,
)
from tests.unit.recorded import Log

BACKOFF = Backoff(initial=1, maximum=3, multiplier=2, attempts=4)


class FakeMongo:
    """Stands in for the driver: its class, its client, its database and its collection."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = deque(failures)
        self.options: dict[str, Any] = {}
        self.indexes: dict[str, dict[str, Any]] = {}
        self.collections: list[str] = []
        self.listing_indexes: list[str] = []
        self.count = 0
        self.closed = 0
        self.dropped: list[str] = []
        self.drops_fail: Exception | None = None
        self.answering = asyncio.Event()
        self.answering.set()

    def __call__(self, url: str, **options: Any) -> "FakeMongo":
        self.options = {"url": url, **options}
        return self

    def __getitem__(self, name: str) -> "FakeMongo":
        return self

    @property
    def admin(self) -> "FakeMongo":
        return self

    async def command(self, name: str) -> None:
        assert name == "ping"
        await self.answering.wait()
        self._fail()

    async def create_collection(self, name: str, **_options: Any) -> None:
        self._fail()
        self.collections.append(name)

    async def create_index(self, name: str, **options: Any) -> None:
        self.indexes[name] = options

    async def index_information(self) -> dict[str, dict[str, Any]]:
        return {f"{name}_1": options for name, options in self.indexes.items()} | {
            name: {} for name in self.listing_indexes
        }

    async def estimated_document_count(self) -> int:
        return self.count

    async def create_indexes(self, models: list[IndexModel]) -> None:
        self.listing_indexes += [model.document["name"] for model in models]

    async def drop_index(self, name: str) -> None:
        self.dropped.append(name)
        if self.drops_fail is not None:
            raise self.drops_fail
        del self.indexes[name.removesuffix("_1")]

    def close(self) -> None:
        self.closed += 1

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.popleft()


class AsynchronousMongo(FakeMongo):
    """As pymongo's own client, whose close() is awaited."""

    def close(self) -> Any:
        async def closing() -> None:
            self.closed += 1

        return closing()


def a_database(
    mongo: FakeMongo, *, timeout_seconds: float = 5, retention_days: int = 0
) -> Database:
    return Database(
        "mongodb://nowhere/",
        "inventory",
        timeout_seconds=timeout_seconds,
        backoff=BACKOFF,
        retention_days=retention_days,
        client_class=mongo,
    )


async def test_opening_prepares_the_collection(log: Log) -> None:
    mongo = FakeMongo()
    database = a_database(mongo)
    await database.open()
    assert database.state is DatabaseState.CONNECTED
    assert mongo.collections == ["pages"]
    assert mongo.indexes == {
        "url": {"unique": True},
        "created_at": {},
        "processing.waiting": {
            "partialFilterExpression": {"processing.waiting.0": {"$exists": True}}
        },
        "processing.covered.request_id": {},
        "unpublished.event_id": {"partialFilterExpression": {"unpublished.0": {"$exists": True}}},
        "deleted_at": {
            "expireAfterSeconds": 7 * 86_400,
            "partialFilterExpression": {"status": "DELETED"},
        },
    }
    assert log.events == ["db_connect_attempt", "db_connected"]
    assert log.one("db_connect_attempt") == IsPartialDict(attempt=1, delay=0)


@pytest.mark.parametrize(("count", "makes"), [(100_000, True), (100_001, False)])
async def test_the_indexes_of_lists_are_made_at_start_while_that_takes_seconds(
    log: Log, count: int, *, makes: bool
) -> None:
    mongo = FakeMongo()
    mongo.count = count
    await a_database(mongo).open()
    assert mongo.listing_indexes == (list(LISTING_INDEXES) if makes else [])
    assert ("indexes_missing" in log.events) != makes


async def test_indexes_that_are_there_are_not_made_again(log: Log) -> None:
    mongo = FakeMongo()
    mongo.count = 10**9
    mongo.listing_indexes = there = list(LISTING_INDEXES)
    await a_database(mongo).open()
    assert mongo.listing_indexes is there
    assert len(there) == len(LISTING_INDEXES)
    assert "indexes_missing" not in log.events


async def test_a_collection_that_is_there_is_taken_as_it_is() -> None:
    mongo = FakeMongo(CollectionInvalid("collection pages already exists"))
    await a_database(mongo).open()
    assert {"url", "created_at"} < set(mongo.indexes)


async def test_the_index_that_removes_results_follows_the_number_of_days() -> None:
    mongo = FakeMongo()
    found = []
    for days in (0, 30, 30, 7, 0, 0):
        await a_database(mongo, retention_days=days).open()
        found.append(mongo.indexes.get("asked_at", {}).get("expireAfterSeconds"))
    day = 86_400  # a result is removed a day later than is set: reading is noted once a day
    assert found == [None, 31 * day, 31 * day, 8 * day, None, None]
    assert mongo.dropped == ["asked_at_1"] * 2


async def test_only_results_are_removed() -> None:
    mongo = FakeMongo()
    await a_database(mongo, retention_days=1).open()
    only = mongo.indexes["asked_at"]["partialFilterExpression"]
    assert only == {"status": {"$in": ["COMPLETED", "FAILED_PERMANENT"]}}


async def test_an_index_that_another_process_has_dropped_is_gone_all_the_same() -> None:
    mongo = FakeMongo()
    await a_database(mongo, retention_days=1).open()
    mongo.drops_fail = OperationFailure("index not found with name", 27)
    await a_database(mongo, retention_days=2).open()
    assert mongo.indexes["asked_at"]["expireAfterSeconds"] == 3 * 86_400


async def test_an_index_that_cannot_be_dropped_stops_the_start(slept: list[float]) -> None:
    mongo = FakeMongo()
    await a_database(mongo, retention_days=1).open()
    mongo.drops_fail = OperationFailure("not authorized", 13)
    with pytest.raises(DatabaseUnreachable, match="not authorized"):
        await a_database(mongo).open()
    assert len(slept) == 3


async def test_every_operation_is_bounded_and_durable() -> None:
    mongo = FakeMongo()
    await a_database(mongo, timeout_seconds=2.5).open()
    assert mongo.options == {
        "url": "mongodb://nowhere/",
        "timeoutMS": 2500,
        "serverSelectionTimeoutMS": 2500,
        "connectTimeoutMS": 2500,
        "w": "majority",
        "journal": True,
        "readPreference": "primary",
        "retryWrites": True,
        "tz_aware": True,
        "uuidRepresentation": "standard",
        "event_listeners": [IsInstance(CommandTimer)],
    }


async def test_failed_attempts_are_followed_by_growing_delays(slept: list[float], log: Log) -> None:
    mongo = FakeMongo(*(ServerSelectionTimeoutError("no server") for _ in range(3)))
    await a_database(mongo).open()
    assert slept == [1, 2, 3]
    attempts = [(it["attempt"], it["delay"]) for it in log.all("db_connect_attempt")]
    assert attempts == [(1, 0), (2, 1), (3, 2), (4, 3)]
    failures = log.all("db_connect_failed")
    assert [it["attempt"] for it in failures] == [1, 2, 3]
    assert failures[0]["reason"].startswith("ServerSelectionTimeoutError: no server")


async def test_after_the_last_attempt_the_process_does_not_start(slept: list[float]) -> None:
    mongo = FakeMongo(*(AutoReconnect("refused") for _ in range(4)))
    database = a_database(mongo)
    with pytest.raises(DatabaseUnreachable, match=r"in 4 attempts \(AutoReconnect: ") as end:
        await database.open()
    assert "DATABASE_URL" in str(end.value)
    assert len(slept) == 3
    assert (database.state, mongo.closed) == (DatabaseState.DISCONNECTED, 1)


class UnmadeMongo(FakeMongo):
    """A client that cannot be made: its URL is wrong, or its name is not in the DNS."""

    def __call__(self, url: str, **options: Any) -> FakeMongo:
        self._fail()
        return super().__call__(url, **options)


async def test_a_name_that_is_not_in_the_dns_yet_is_looked_up_again(slept: list[float]) -> None:
    database = a_database(UnmadeMongo(ConfigurationError("the DNS operation timed out")))
    await database.open()
    assert (database.state, slept) == (DatabaseState.CONNECTED, [1])


@pytest.mark.parametrize(
    "failure", [InvalidURI("Username must be escaped"), FileNotFoundError("no such file")]
)
async def test_a_url_that_cannot_be_used_ends_the_process_at_once(
    failure: Exception, slept: list[float]
) -> None:
    with pytest.raises(DatabaseUnreachable, match=f"DATABASE_URL can't be used: {failure}"):
        await a_database(UnmadeMongo(failure)).open()
    assert not slept


UNUSABLE = [
    ("mongodb://u:p@ss@h/", "must be escaped"),
    ("mongodb://h/?tls=true&tlsCAFile=/none.pem", "DATABASE_URL can't be used: .*none.pem"),
]


@pytest.mark.parametrize(("url", "reason"), UNUSABLE)
@pytest.mark.parametrize("open_collection", [keys_of, pages_of])
def test_a_command_says_that_a_url_cannot_be_used(
    open_collection: Any, url: str, reason: str
) -> None:
    with (
        pytest.raises(DatabaseUnreachable, match=reason),
        open_collection(url, "inventory", timeout_seconds=1),
    ):
        pass


@pytest.mark.parametrize(("url", "reason"), UNUSABLE)
def test_doctor_says_that_a_url_cannot_be_used(url: str, reason: str) -> None:
    with pytest.raises(DatabaseUnreachable, match=reason):
        database_facts(url, "inventory", timeout_seconds=1)


@pytest.mark.parametrize("kind", [FakeMongo, AsynchronousMongo], ids=["Motor's", "pymongo's"])
async def test_a_database_is_closed_once(kind: Callable[[], FakeMongo]) -> None:
    mongo = kind()
    database = a_database(mongo)
    await database.close()
    await database.open()
    await database.close()
    await database.close()
    assert (database.state, mongo.closed) == (DatabaseState.DISCONNECTED, 1)


async def test_a_database_that_answers_is_there() -> None:
    database = a_database(FakeMongo())
    await database.open()
    assert await database.why_not_ready() is None


async def test_one_that_fails_is_not(log: Log) -> None:
    mongo = FakeMongo()
    database = a_database(mongo)
    await database.open()
    mongo.failures.append(AutoReconnect("connection closed"))
    assert await database.why_not_ready() == "database does not answer"
    assert log.one("db_unavailable") == IsPartialDict(level="WARNING", reason="AutoReconnect")


async def test_nor_one_that_hangs(log: Log) -> None:
    mongo = FakeMongo()
    database = a_database(mongo, timeout_seconds=0.01)
    await database.open()
    mongo.answering.clear()
    assert await database.why_not_ready() == "database does not answer"
    assert log.one("db_unavailable")["reason"] == "TimeoutError"


def undecodable() -> UnicodeEncodeError:
    return UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")


TRANSLATIONS = {
    "no server": (ServerSelectionTimeoutError("no server"), StoreUnavailable),
    "a slow server": (NetworkTimeout("timed out"), StoreUnavailable),
    "a lost connection": (AutoReconnect("closed"), StoreUnavailable),
    "no majority": (WriteConcernError("waiting for replication", 64), StoreUnavailable),
    "an operation refused": (OperationFailure("not primary", 10107), StoreUnavailable),
    "over 16 MB, says the driver": (DocumentTooLarge("17000000"), NotStorable),
    "over 16 MB, says the server": (OperationFailure("BSONObj size", 10334), NotStorable),
    "over 16 MB once updated": (OperationFailure("resulting document", 17419), NotStorable),
    "over 16 MB once inserted": (OperationFailure("resulting document", 17420), NotStorable),
    "a value BSON has not": (InvalidDocument("cannot encode"), NotStorable),
    "a lone surrogate": (undecodable(), NotStorable),
    "a number over 64 bits": (OverflowError("8-byte ints"), NotStorable),
}


@pytest.mark.parametrize(("error", "ours"), TRANSLATIONS.values(), ids=TRANSLATIONS.keys())
def test_an_error_of_the_driver_becomes_one_of_ours(
    log: Log, error: Exception, ours: type[Exception]
) -> None:
    with pytest.raises(ours, match=type(error).__name__) as raised, translated_errors():
        raise error
    assert raised.value.__cause__ is error
    assert log.events == (["db_unavailable"] if ours is StoreUnavailable else [])


def test_a_duplicate_key_is_an_answer_and_a_bug_is_a_bug() -> None:
    for error in (DuplicateKeyError("E11000"), ZeroDivisionError()):
        with pytest.raises(type(error)), translated_errors():
            raise error


def test_a_long_error_is_told_in_short() -> None:
    with pytest.raises(NotStorable) as raised, translated_errors():
        raise InvalidDocument("x" * 100_000)
    assert len(str(raised.value)) <= 300


def bulk_failure(*codes: int, concern: int = 0) -> BulkWriteError:
    errors = [{"index": 0, "code": code, "errmsg": ""} for code in codes]
    concerns = [{"code": concern, "errmsg": ""}] if concern else []
    return BulkWriteError({"writeErrors": errors, "writeConcernErrors": concerns})


ANY_UPDATE = UpdateOne({}, {"$set": {"status": "COMPLETED"}})


class FakeCollection:
    """Fails each bulk with the next of `failures`; takes it once there is none left."""

    def __init__(self, *failures: BulkWriteError, found: Mapping[str, int] | None = None) -> None:
        self._failures = list(failures)
        self._found = found
        self.bulks = 0

    async def bulk_write(self, writes: Sequence[Any], *, ordered: bool) -> BulkWriteResult:
        assert not ordered
        self.bulks += 1
        if self._failures:
            raise self._failures.pop(0)
        found = self._found or {"nMatched": len(writes), "nUpserted": 0}
        return BulkWriteResult(dict(found), acknowledged=True)


@pytest.mark.parametrize(("failures", "bulks"), [(0, 1), (1, 2), (2, 2)])
async def test_upserts_with_duplicate_keys_are_tried_once_more(failures: int, bulks: int) -> None:
    collection = FakeCollection(*[bulk_failure(11000, 11000)] * failures)
    assert await write_all(collection, [ANY_UPDATE, ANY_UPDATE]) == (failures < 2)
    assert collection.bulks == bulks


@pytest.mark.parametrize(("matched", "inserted"), [(3, 0), (1, 2), (2, 0), (1, 1)])
async def test_a_bulk_says_whether_each_update_had_its_record(matched: int, inserted: int) -> None:
    collection = FakeCollection(found={"nMatched": matched, "nUpserted": inserted})
    assert await write_all(collection, [ANY_UPDATE] * 3) == (matched + inserted == 3)


@pytest.mark.parametrize(
    "failure", [bulk_failure(11000, 8), bulk_failure(11000, concern=64), bulk_failure(concern=64)]
)
async def test_a_bulk_that_is_not_durable_is_a_failure(failure: BulkWriteError) -> None:
    with pytest.raises(StoreUnavailable), translated_errors():
        await write_all(FakeCollection(failure), [ANY_UPDATE])


def test_a_bulk_with_a_document_that_is_too_large_cannot_be_stored() -> None:
    with pytest.raises(NotStorable), translated_errors():
        raise bulk_failure(17419)
