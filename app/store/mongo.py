"""The connection to MongoDB. Motor is imported here and nowhere else (`docs/adr/0005-motor.md`)."""

import asyncio
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Literal

import pymongo
from bson.errors import InvalidDocument
from loguru import logger
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, UpdateOne, monitoring
from pymongo.errors import (
    BulkWriteError,
    CollectionInvalid,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)

from app.errors import DatabaseUnreachable, NotStorable, StoreUnavailable
from app.retries import Backoff
from app.runtime import metrics
from app.store.indexes import prepare_indexes

Driver = Literal["motor", "pymongo"]

CLIENTS: Mapping[Driver, Any] = {"motor": AsyncIOMotorClient, "pymongo": AsyncMongoClient}
"""Both take the same calls (`docs/adr/0005-motor.md`)."""

COLLECTION = "pages"
KEY_COLLECTION = "api_keys"

INDEX_BUILD_SECONDS = 24 * 3600
"""How long start-up waits for an index. On a large collection building one takes minutes, many
times the timeout of any other operation; cut short, it would begin anew at the next start."""

DUPLICATE_KEY = 11000

UNWRITABLE = (DocumentTooLarge, InvalidDocument, UnicodeEncodeError, OverflowError)
"""What the driver raises for a document that it cannot encode. It then sends nothing of a bulk."""

_TOO_LARGE = {10334, 17419, 17420}
"""Server error codes of a document over 16 MB (MongoDB's error_codes.yml)."""


class DatabaseState(StrEnum):
    """How far the connection is. Once CONNECTED, the driver reconnects by itself."""

    DISCONNECTED = "DISCONNECTED"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"


class Database:
    """A MongoDB database whose operations are bounded in time and durable when acknowledged.

    Results that nobody has asked for since `retention_days` are removed; 0 keeps them for ever.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own, and named by the caller
        self,
        url: str,
        name: str,
        *,
        timeout_seconds: float,
        backoff: Backoff,
        retention_days: int = 0,
        client_class: Any = AsyncIOMotorClient,
    ) -> None:
        self.state = DatabaseState.DISCONNECTED
        self._url = url
        self._name = name
        self.timeout_seconds = timeout_seconds
        self._backoff = backoff
        self._retention_days = retention_days
        self._client_class = client_class
        self._client: Any = None

    @property
    def pages(self) -> Any:
        """The collection of page records; only after `open()`."""
        return self._client[self._name][COLLECTION]

    @property
    def keys(self) -> Any:
        """The collection of API keys; only after `open()`. It need not exist."""
        return self._client[self._name][KEY_COLLECTION]

    async def open(self) -> None:
        """Connect with backoff and create collection and indexes where they are missing.

        Raises `DatabaseUnreachable` after the last attempt, or at once if the URL can't be used.
        """
        self.state = DatabaseState.CONNECTING
        reason = "no attempt was made"
        for attempt, delay in self._backoff.schedule():
            await asyncio.sleep(delay)
            logger.info("db_connect_attempt", attempt=attempt, delay=delay)
            try:
                if self._client is None:
                    # A mongodb+srv:// URL is looked up in the DNS when the client is made.
                    self._client = self._make_client()
                await self._prepare()
            except PyMongoError as exc:
                reason = f"{type(exc).__name__}: {exc}"[:300]
                logger.warning("db_connect_failed", attempt=attempt, reason=reason)
            else:
                self.state = DatabaseState.CONNECTED
                logger.info("db_connected", attempt=attempt)
                return
        await self.close()
        raise DatabaseUnreachable(
            f"MongoDB could not be reached in {self._backoff.attempts} attempts ({reason}). "
            "Is it running, and is DATABASE_URL right?"
        )

    async def why_not_ready(self) -> str | None:
        """Return None if the database answers within the timeout, else what to say of it."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._client.admin.command("ping")
        except (PyMongoError, TimeoutError) as exc:
            metrics.DATABASE_UNAVAILABLE.inc()
            logger.warning("db_unavailable", reason=type(exc).__name__)
            return "database does not answer"
        return None

    async def close(self) -> None:
        """Close every connection. Closing a closed database does nothing."""
        if self._client is not None:
            closing = self._client.close()
            if inspect.isawaitable(closing):  # pymongo's own client; Motor's closes at once
                await closing
        self._client = None
        self.state = DatabaseState.DISCONNECTED

    def _make_client(self) -> Any:
        try:
            return self._new_client()
        except (InvalidURI, ValueError, OSError) as exc:
            raise DatabaseUnreachable(f"DATABASE_URL can't be used: {exc}") from exc

    def _new_client(self) -> Any:
        timeout_ms = round(self.timeout_seconds * 1000)
        return self._client_class(
            self._url,
            # timeoutMS bounds the whole operation, also on a server that has stopped answering.
            timeoutMS=timeout_ms,
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            w="majority",
            journal=True,
            # A claim is written and then read back: only the primary is sure to have it.
            readPreference="primary",
            retryWrites=True,
            tz_aware=True,
            uuidRepresentation="standard",
            event_listeners=[CommandTimer()],
        )

    async def _prepare(self) -> None:
        try:
            # zstd stores page sources in less space than MongoDB's default, snappy.
            await self._client[self._name].create_collection(
                COLLECTION,
                storageEngine={"wiredTiger": {"configString": "block_compressor=zstd"}},
            )
        except CollectionInvalid:
            logger.debug("db_collection_exists")
        with pymongo.timeout(INDEX_BUILD_SECONDS):
            await prepare_indexes(self.pages, self._retention_days)


@contextmanager
def not_storable_told() -> Iterator[None]:
    """Raise `NotStorable` for a document that no further try could write."""
    try:
        yield
    except UNWRITABLE as exc:
        raise NotStorable(_in_short(exc)) from exc
    except OperationFailure as exc:
        if _is_too_large(exc):
            raise NotStorable(_in_short(exc)) from exc
        raise


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise the driver's errors as this package's own.

    `DuplicateKeyError` passes: to its callers it is an answer, not a fault.
    """
    try:
        with not_storable_told():
            yield
    except DuplicateKeyError:
        raise
    except (PyMongoError, TimeoutError) as exc:
        raise _unavailable(exc) from exc


async def write_all(collection: Any, updates: Sequence[UpdateOne]) -> bool:
    """Write a bulk, and once more if some of it fails on a duplicate key.

    Two processes may insert the same page at once: one of them gets a duplicate key, and its second
    try finds the record. Any other error of the bulk is raised. Returns whether each update found
    its record, or inserted it.
    """
    for _ in range(2):
        try:
            done = await collection.bulk_write(updates, ordered=False)
        except BulkWriteError as exc:
            if _codes(exc) - {DUPLICATE_KEY} or exc.details["writeConcernErrors"]:
                raise
        else:
            found: int = done.matched_count + done.upserted_count
            return found == len(updates)
    return False


def _codes(exc: OperationFailure) -> set[int | None]:
    """Return the server's error codes: one of its own, or those of the writes of a bulk."""
    if isinstance(exc, BulkWriteError):
        return {error["code"] for error in exc.details["writeErrors"]}
    return {exc.code}


def is_of_one_write(exc: OperationFailure) -> bool:
    """Say whether the server refused single writes of a bulk, rather than the bulk as a whole."""
    return isinstance(exc, BulkWriteError) or _is_too_large(exc)


def _is_too_large(exc: OperationFailure) -> bool:
    """Say whether the server refused a document because it is over 16 MB."""
    return bool(_codes(exc) & _TOO_LARGE)


def _unavailable(exc: Exception) -> StoreUnavailable:
    metrics.DATABASE_UNAVAILABLE.inc()
    logger.warning("db_unavailable", reason=type(exc).__name__)
    return StoreUnavailable(_in_short(exc))


def _in_short(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"[:300]


_MICROSECONDS = 1_000_000
_OURS = frozenset({"find", "findAndModify", "update", "delete", "insert", "ping"})


class CommandTimer(monitoring.CommandListener):
    """Measures every command that was answered. pymongo calls it in the driver's own thread."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Do nothing: the driver measures the time."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Measure a command that the server has carried out."""
        _observe(event.command_name, "success", event.duration_micros)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Measure a command that the server refused, or whose connection was lost."""
        _observe(event.command_name, "failure", event.duration_micros)


def _observe(command: str, outcome: str, microseconds: int) -> None:
    label = command if command in _OURS else "other"
    metrics.DATABASE_SECONDS.labels(label, outcome).observe(microseconds / _MICROSECONDS)
