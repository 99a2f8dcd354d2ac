"""A blocking connection to the database, for the commands of an operator."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from app.errors import DatabaseUnreachable


@contextmanager
def connected(
    url: str, name: str, *, timeout_seconds: float
) -> Iterator[pymongo.database.Database[dict[str, Any]]]:
    """Connect to the database `name`. Each operation is bounded, and durable when acknowledged.

    Any error of the driver that leaves the block is raised as `DatabaseUnreachable`.
    """
    timeout_ms = round(timeout_seconds * 1000)
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        url,
        timeoutMS=timeout_ms,
        serverSelectionTimeoutMS=timeout_ms,
        w="majority",
        journal=True,
        readPreference="primary",
        tz_aware=True,
        uuidRepresentation="standard",
    )
    try:
        with client:
            yield client[name]
    except PyMongoError as exc:
        # pymongo goes on with details of its topology, which say nothing to an operator.
        reason = str(exc).partition(" (")[0].partition(", Timeout")[0]
        raise DatabaseUnreachable(f"MongoDB could not be reached: {reason}") from exc
