"""The collection of API keys, `api_keys`. The API reads it, and `pagemeta keys` writes it.

A document has `_id` (the key's id), `name`, `scopes`, `requests_per_minute`, `secret_hash`,
`active`, `created_at`, and where they apply `former` {`secret_hash`, `until`}, `rotated_at`,
`revoked_at`, `last_used_at` and `uses`. All times are those of the database. A revoked key is kept,
so that it can be told who used it, and that its id was once known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from app.errors import NameTaken, UnknownKey
from app.keys import ApiKey, Scope, hash_of, key_text, new_id, new_secret
from app.store.claims import Bson
from app.store.mongo import Database, translated_errors

_FORMER_IS_GOOD = {"$gt": ["$former.until", "$$NOW"]}

_TO_CHECK = {
    "name": True,
    "scopes": True,
    "requests_per_minute": True,
    "secret_hash": True,
    "active": True,
    "former_hash": {"$cond": [_FORMER_IS_GOOD, "$former.secret_hash", None]},
}


class KeyRepository:
    """The keys as the API needs them: all of them, to check callers, and how much they are used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[ApiKey]:
        """Return every key, revoked ones too. Raises `StoreUnavailable`."""
        with translated_errors():
            return [_key(it) async for it in self._database.keys.find({}, _TO_CHECK)]

    async def note_uses(self, uses: Mapping[str, int]) -> None:
        """Add to how often keys were used, and note that it was now. Raises `StoreUnavailable`."""
        updates = [
            UpdateOne(
                {"_id": it}, {"$inc": {"uses": count}, "$currentDate": {"last_used_at": True}}
            )
            for it, count in uses.items()
        ]
        with translated_errors():
            await self._database.keys.bulk_write(updates, ordered=False)


def _key(document: Bson) -> ApiKey:
    return ApiKey(
        id=document["_id"],
        name=document["name"],
        scopes=_known_scopes(document["scopes"]),
        requests_per_minute=document["requests_per_minute"],
        secret_hash=document["secret_hash"],
        former_hash=document["former_hash"],
        revoked=not document["active"],
    )


def _known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes with these names. A newer version may have given a key others too."""
    return frozenset(it for it in Scope if it in names)


# --- For `pagemeta keys`, which does one thing at a time ------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key as `pagemeta keys list` shows it; the names are those of its JSON."""

    id: str
    name: str
    scopes: list[str]
    requests_per_minute: int
    active: bool
    created_at: datetime
    rotated_at: datetime | None
    former_secret_until: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    uses: int


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its secret, which is not kept."""

    id: str
    name: str
    key: str


class KeyRegistry:
    """Makes, lists, rotates and revokes keys. Every call blocks, and raises the driver's errors."""

    def __init__(self, collection: Collection[Bson]) -> None:
        self._collection = collection

    def create(self, name: str, scopes: Iterable[Scope], requests_per_minute: int) -> IssuedKey:
        """Make a key. Raises `NameTaken` if another one that is not revoked has its name."""
        self._collection.create_index("name", unique=True, partialFilterExpression={"active": True})
        key_id, secret = new_id(), new_secret()
        document = {
            "name": {"$literal": name},
            "scopes": sorted(scopes),
            "requests_per_minute": requests_per_minute,
            "secret_hash": hash_of(secret.encode()),
            "active": True,
            "created_at": "$$NOW",
            "uses": 0,
        }
        try:
            # An upsert: only an update can have the database fill in its own time.
            self._collection.update_one({"_id": key_id}, [{"$set": document}], upsert=True)
        except DuplicateKeyError as exc:
            raise NameTaken(
                f"there is a key with the name {name} already; take another name, or see "
                "`pagemeta keys rotate` and `pagemeta keys revoke`"
            ) from exc
        return IssuedKey(key_id, name, key_text(key_id, secret))

    def existed(self, name: str) -> bool:
        """Say whether there is or was a key of this name."""
        return self._collection.find_one({"name": name}, {"_id": True}) is not None

    def states(self) -> list[KeyState]:
        """Return every key, the oldest first."""
        return [_state(it) for it in self._collection.find().sort("created_at")]

    def rotate(self, name_or_id: str, *, keep_former_seconds: float) -> IssuedKey:
        """Give a key another secret. The former one is good for some seconds more.

        Raises `UnknownKey` if there is none of this name or id that is not revoked.
        """
        secret = new_secret()
        changes: list[Bson] = [
            {"$set": {"former": _former(keep_former_seconds)}},
            {"$set": {"secret_hash": hash_of(secret.encode()), "rotated_at": "$$NOW"}},
        ]
        key = self._change(name_or_id, changes)
        return IssuedKey(key["_id"], key["name"], key_text(key["_id"], secret))

    def revoke(self, name_or_id: str) -> KeyState:
        """End a key for good. Raises `UnknownKey` as `rotate()` does."""
        revoked = {"active": False, "revoked_at": "$$NOW", "former": None}
        return _state(self._change(name_or_id, [{"$set": revoked}]))

    def _change(self, name_or_id: str, changes: list[Bson]) -> Bson:
        named = {"$or": [{"_id": name_or_id}, {"name": name_or_id}], "active": True}
        key: Bson | None = self._collection.find_one_and_update(
            named, changes, return_document=ReturnDocument.AFTER
        )
        if key is None:
            raise UnknownKey(
                f"there is no key with the name or id {name_or_id} that is not revoked; see "
                "`pagemeta keys list --all`"
            )
        return key


def _former(seconds: float) -> Any:
    if not seconds:
        return None
    until = {"$add": ["$$NOW", round(seconds * 1000)]}
    return {"secret_hash": "$secret_hash", "until": until}


def _state(document: Bson) -> KeyState:
    return KeyState(
        id=document["_id"],
        name=document["name"],
        scopes=document["scopes"],
        requests_per_minute=document["requests_per_minute"],
        active=document["active"],
        created_at=document["created_at"],
        rotated_at=document.get("rotated_at"),
        former_secret_until=(document.get("former") or {}).get("until"),
        revoked_at=document.get("revoked_at"),
        last_used_at=document.get("last_used_at"),
        uses=document.get("uses", 0),
    )
