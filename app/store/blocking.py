"""The collections for commands, which do one thing at a time: every call blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError

from app.errors import DatabaseUnreachable
from app.store.claims import Bson
from app.store.mongo import COLLECTION, KEY_COLLECTION

QUERY_SECONDS = 60
"""How long one query may take. MongoDB reads whole records of up to 16 MB from its disk, even where
it sends little of them."""


@contextmanager
def driver_errors_told(what: str) -> Iterator[None]:
    """Raise any error of the driver as `DatabaseUnreachable`: MongoDB could not be so and so."""
    try:
        yield
    except PyMongoError as exc:
        # pymongo goes on with details of its topology, which say nothing to an operator.
        reason = str(exc).partition(" (")[0].partition(", Timeout")[0]
        raise DatabaseUnreachable(f"MongoDB could not be {what}: {reason}") from exc


def in_batches(
    pages: Collection[Bson], shown: Bson, size: int, *, key: str
) -> Iterator[list[Bson]]:
    """Yield all records, some at a time, in the order of an indexed field that is among the shown.

    A record whose key is changed meanwhile may come twice or not at all.
    """
    after: Bson = {}
    while found := list(pages.find(after, shown).sort(key).limit(size)):
        yield found
        after = {key: {"$gt": found[-1][key]}}


def client_of(url: str, **options: Any) -> pymongo.MongoClient[Bson]:
    """Return pymongo's client. A URL that can't be used raises `DatabaseUnreachable`.

    For example, it may name a file of certificates that is not there.
    """
    try:
        return pymongo.MongoClient(url, **options)
    except (ValueError, OSError) as exc:
        raise DatabaseUnreachable(f"DATABASE_URL can't be used: {exc}") from exc


@contextmanager
def pages_of(url: str, name: str, *, timeout_seconds: float) -> Iterator[Collection[Bson]]:
    """Connect to the database `name`, within `timeout_seconds`, and yield its collection of pages.

    Any error of the driver raises `DatabaseUnreachable`.
    """
    with _database_of(url, name, timeout_seconds) as database:
        yield database[COLLECTION]


@contextmanager
def keys_of(url: str, name: str, *, timeout_seconds: float) -> Iterator[Collection[Bson]]:
    """Yield the collection of API keys, as `pages_of()` does that of pages."""
    with _database_of(url, name, timeout_seconds) as database:
        yield database[KEY_COLLECTION]


@contextmanager
def _database_of(url: str, name: str, timeout_seconds: float) -> Iterator[Database[Bson]]:
    # Making the client can fail too: it looks a mongodb+srv:// URL up in the DNS.
    with driver_errors_told("used"), _client(url) as client:
        with pymongo.timeout(timeout_seconds):
            client.admin.command("ping")
        yield client[name]


def _client(url: str) -> pymongo.MongoClient[Bson]:
    return client_of(
        url,
        timeoutMS=QUERY_SECONDS * 1000,
        w="majority",
        journal=True,
        tz_aware=True,
        uuidRepresentation="standard",
    )
