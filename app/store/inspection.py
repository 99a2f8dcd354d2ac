"""Reads the state of the database for `pagemeta doctor`. It creates and changes nothing."""

from dataclasses import dataclass
from typing import Any

from app.store.blocking import client_of, driver_errors_told
from app.store.indexes import days_of_retention
from app.store.mongo import COLLECTION, KEY_COLLECTION


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What `doctor` reports; `indexes` maps each indexed field to whether it is unique."""

    version: str
    replica_set: str | None
    exists: bool
    pages: int
    indexes: dict[str, bool]
    compressor: str | None

    retention_days: int
    """How long results are kept that nobody asks for; 0 is for ever."""

    api_keys: int
    """Those that are not revoked."""


def database_facts(url: str, name: str, *, timeout_seconds: float) -> DatabaseFacts:
    """Return the facts about the database `name`. Raises `DatabaseUnreachable`."""
    timeout_ms = round(timeout_seconds * 1000)
    with (
        driver_errors_told("reached"),
        client_of(url, timeoutMS=timeout_ms, serverSelectionTimeoutMS=timeout_ms) as client,
    ):
        return _facts(client, client[name])


def _facts(client: Any, database: Any) -> DatabaseFacts:
    exists = COLLECTION in database.list_collection_names()
    indexes = database[COLLECTION].index_information() if exists else {}
    return DatabaseFacts(
        version=client.server_info()["version"],
        replica_set=client.admin.command("hello").get("setName"),
        exists=exists,
        pages=database[COLLECTION].estimated_document_count() if exists else 0,
        indexes={key["key"][0][0]: key.get("unique", False) for key in indexes.values()},
        compressor=_compressor(database) if exists else None,
        retention_days=days_of_retention(indexes),
        api_keys=database[KEY_COLLECTION].count_documents({"active": True}),
    )


def _compressor(database: Any) -> str | None:
    options = database[COLLECTION].options().get("storageEngine", {}).get("wiredTiger", {})
    settings = dict(
        setting.split("=", 1) for setting in options.get("configString", "").split(",") if setting
    )
    return settings.get("block_compressor")
