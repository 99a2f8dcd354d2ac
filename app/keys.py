"""API keys: what one looks like, what it permits, and how its secret is checked.

A key is `pm_<id>_<secret>`. The id is no secret: logs and `pagemeta keys` name a key by it. The
secret is shown once, when it is made. Only its hash is kept.
"""

import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest

ID_BYTES = 6
SECRET_BYTES = 32

_ID = rf"[0-9a-f]{{{2 * ID_BYTES}}}"

KEY = re.compile(rf"pm_({_ID})_([0-9a-f]{{{2 * SECRET_BYTES}}})".encode())

_ALMOST_A_KEY = re.compile(r"(pm_[0-9a-f]{12}_)[0-9a-z]{20,}", re.IGNORECASE)
"""Finds keys in a text, also such as were cut off or written in upper case."""


class Scope(StrEnum):
    """What a key permits. No scope includes another one."""

    READ = "read"
    """Read what is stored."""

    WRITE = "write"
    """Have pages fetched: POST, and a GET that queues."""

    DELETE = "delete"
    """Delete what is stored."""

    METRICS = "metrics"
    """Read `/metrics`."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without its secret."""

    id: str
    name: str
    scopes: frozenset[Scope]

    requests_per_minute: int
    """How many requests a minute one API process takes with this key; 0 is any number."""

    secret_hash: bytes

    former_hash: bytes | None = None
    """The hash of the secret before the last rotation, as long as that is good too."""

    revoked: bool = False

    def accepts(self, secret: bytes) -> bool:
        """Say whether a secret is the one of this key, in a time that tells nothing about it."""
        if self.revoked:
            return False
        sent = hash_of(secret)
        is_former = compare_digest(sent, self.former_hash or self.secret_hash)
        return compare_digest(sent, self.secret_hash) or is_former


def hash_of(secret: bytes) -> bytes:
    """Return what is kept of a secret.

    One SHA-256, no slow hash such as Argon2: those are for passwords, which can be guessed. A
    secret has 256 random bits. To find it from its hash takes 2^255 tries, however fast each is.
    And every request has to be hashed.
    """
    return sha256(secret).digest()


def new_id() -> str:
    """Return an id for a new key."""
    return secrets.token_hex(ID_BYTES)


def new_secret() -> str:
    """Return a secret of 256 random bits."""
    return secrets.token_hex(SECRET_BYTES)


def key_text(key_id: str, secret: str) -> str:
    """Return a key as its user sends it."""
    return f"pm_{key_id}_{secret}"


def without_keys(text: str) -> str:
    """Return a text with only the ids of the keys in it, and itself if there is none."""
    if "pm_" not in text.lower():
        return text
    return _ALMOST_A_KEY.sub(r"\1REDACTED", text)
