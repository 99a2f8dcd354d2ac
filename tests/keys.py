"""API keys for tests, and a place that keeps them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from app.keys import ApiKey, Scope, hash_of, key_text, new_id, new_secret


class FakeKeys:
    """Keeps keys as the database does.

    While `failing` returns an error, it is raised. Without `answers` a reading has to wait.
    """

    def __init__(self) -> None:
        self.kept: dict[str, ApiKey] = {}
        self.uses: Counter[str] = Counter()
        self.readings = 0
        self.failing: Callable[[], Exception] | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def all(self) -> list[ApiKey]:
        self.readings += 1
        await self.answers.wait()
        if self.failing:
            raise self.failing()
        return list(self.kept.values())

    async def note_uses(self, uses: Mapping[str, int]) -> None:
        if self.failing:
            raise self.failing()
        self.uses.update(uses)

    def add(
        self, *scopes: Scope, requests_per_minute: int = 0, revoked: bool = False, former: str = ""
    ) -> str:
        """Keep a new key, and return its text. `former` is the text of one that it replaces."""
        key_id, secret = new_id(), new_secret()
        self.kept[key_id] = ApiKey(
            id=key_id,
            name=f"key {key_id}",
            scopes=frozenset(scopes),
            requests_per_minute=requests_per_minute,
            secret_hash=hash_of(secret.encode()),
            former_hash=hash_of(former.rpartition("_")[2].encode()) if former else None,
            revoked=revoked,
        )
        return key_text(key_id, secret)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def id_of(key: str) -> str:
    return key.split("_")[1]
