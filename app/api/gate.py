"""Decides whether a request may pass: whose key it has, what that permits, and how often.

What is learned of a request is in its ASGI scope: `api_key` is the key that it was admitted with,
`key_id` the id that it named, `more_headers` are headers of its answer, and `waited_seconds` is how
long it had to wait for a refusal.
"""

import asyncio
import re

from starlette.types import Scope as AsgiScope

from app.api.known_keys import KnownKeys
from app.api.limits import AddressLimit, KeyLimits, Spent
from app.api.problems import (
    BAD_AUTHORIZATION,
    NO_VALID_KEY,
    SCOPE_MISSING,
    TOO_MANY_REQUESTS,
    Refusal,
)
from app.keys import KEY, ApiKey, Scope

MAX_HEADER_BYTES = 256
"""A right header has 87. It bounds the text that the expressions below are applied to."""

PAUSE_SECONDS = 0.5
"""How long a stranger waits to be refused. Clients that send their next request at the answer, as
those that try keys do, so leave the process to key holders."""

MAX_PAUSING = 1000
"""How many strangers wait at once; further ones are refused without a pause."""

REALM = 'Bearer realm="page-metadata"'
INVALID_TOKEN = f'{REALM}, error="invalid_token"'
"""The challenges of RFC 6750, section 3."""

_BEARER = re.compile(rb"(?i:bearer) +(.*)", re.DOTALL)


class Gate:
    """Lets the requests pass that may.

    Without `keys` nobody needs one: then the limit for each client address is the only rule.
    """

    def __init__(
        self,
        *,
        keys: KnownKeys | None,
        address_limit: AddressLimit | None,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._keys = keys
        self._key_limits = KeyLimits()
        self._address_limit = address_limit
        self._pause_seconds = pause_seconds
        self._pausing = 0

    async def admit(self, scope: AsgiScope, needed: Scope) -> None:
        """Return if a request may pass, else raise a `Refusal`.

        Raises `StoreUnavailable` if the key is not known, and the database cannot be asked.
        """
        if self._keys is None:
            self.spend(scope)
            return
        try:
            key = scope["api_key"] = await self._key_of(self._keys, scope)
        except Refusal:
            await self._pause(scope)
            raise
        self.spend(scope)
        if needed not in key.scopes:
            raise Refusal(
                SCOPE_MISSING,
                f"this call needs a key with the scope {needed}",
                {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{needed}"'},
            )

    def spend(self, scope: AsgiScope) -> None:
        """Count a request, or one of several that an admitted request stands for.

        Raises a `Refusal` if that is over the limit.
        """
        key: ApiKey | None = scope.get("api_key")
        if key is None:
            self._spend_as_stranger(scope)
        else:
            _spend(scope, self._key_limits.spend(key.id, key.requests_per_minute), "this key")

    async def _key_of(self, keys: KnownKeys, scope: AsgiScope) -> ApiKey:
        """Return the key of a request. One without a valid key counts as a stranger's."""
        try:
            key_id, secret = _sent_key(scope)
        except Refusal:
            self._spend_as_stranger(scope)
            raise
        scope["key_id"] = key_id
        key = keys.get(key_id)
        if key is None:
            # The limit comes first: over it no query is caused.
            self._spend_as_stranger(scope)
            key = await keys.look_up(key_id)
            if key is None or not key.accepts(secret):
                raise _not_valid()
        elif not key.accepts(secret):
            self._spend_as_stranger(scope)
            raise _not_valid()
        keys.note_use(key)
        return key

    async def _pause(self, scope: AsgiScope) -> None:
        if self._pausing >= MAX_PAUSING:
            return
        self._pausing += 1
        try:
            await asyncio.sleep(self._pause_seconds)
            scope["waited_seconds"] = self._pause_seconds
        finally:
            self._pausing -= 1

    def _spend_as_stranger(self, scope: AsgiScope) -> None:
        if self._address_limit:
            client = scope.get("client")
            spent = self._address_limit.spend(client[0] if client else "")
            _spend(scope, spent, "this address, without a key,")


def make_gate(keys: KnownKeys | None, requests_per_minute_of_address: int) -> Gate | None:
    """Return the gate of an application; None if everything may pass."""
    per_minute = requests_per_minute_of_address
    address_limit = AddressLimit(per_minute) if per_minute else None
    if keys is None and address_limit is None:
        return None
    return Gate(keys=keys, address_limit=address_limit)


def _not_valid() -> Refusal:
    """Return the one answer to all wrong keys: it does not tell which ids there are."""
    return Refusal(
        NO_VALID_KEY,
        "the key is not known, was revoked, or is not written as it was given out",
        {"WWW-Authenticate": INVALID_TOKEN},
    )


def _sent_key(scope: AsgiScope) -> tuple[str, bytes]:
    """Return id and secret of the key that a request was sent with. Raises `Refusal`."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise Refusal(BAD_AUTHORIZATION, "there are several Authorization headers; send one")
    if not found:
        raise _refused_without_key("send a key: Authorization: Bearer pm_…")
    if len(found[0]) > MAX_HEADER_BYTES:
        raise Refusal(BAD_AUTHORIZATION, "the Authorization header is longer than that of any key")
    bearer = _BEARER.fullmatch(found[0])
    if bearer is None:
        raise _refused_without_key("the Authorization header does not begin with Bearer")
    key = KEY.fullmatch(bearer[1])
    if key is None:
        raise _not_valid()
    return key[1].decode(), key[2]


def _refused_without_key(detail: str) -> Refusal:
    return Refusal(NO_VALID_KEY, detail, {"WWW-Authenticate": REALM})


def _spend(scope: AsgiScope, spent: Spent | None, whose: str) -> None:
    """Tell the caller what is left of its limit. Raises `Refusal` if nothing was."""
    if spent is None:
        return
    scope["more_headers"] = spent.headers
    if spent.retry_after_seconds:
        raise Refusal(
            TOO_MANY_REQUESTS,
            f"{whose} may send {spent.requests_per_minute} requests a minute to one process",
            {"Retry-After": str(spent.retry_after_seconds)},
        )
