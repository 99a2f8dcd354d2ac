"""How many requests a minute one process takes, with one key or from one address.

throttled-py counts by its sliding window: the requests of this minute, and those of the minute
before in proportion to how much of that the last 60 seconds hold. That takes two numbers, however
many the requests are. Its store keeps a bounded number of them, and forgets those unused the
longest.

Processes count for themselves: N of them take N times as many requests. What all of them share, and
what bounds the work of the service, is the length of the request queue.
"""

import math
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network

from throttled import RateLimiterType, Throttled, rate_limiter
from throttled.store import MemoryStore

Headers = list[tuple[bytes, bytes]]

SECONDS = 60

MAX_ADDRESSES = 20_000
"""Beyond so many in two minutes the ones unused the longest begin anew. They take 8 MB."""

MAX_KEYS = 20_000

COUNTS_OF_ONE = 2
"""The numbers that the sliding window has of each key or address."""

IPV6_PREFIX = 64
"""A site has at least so large a network to itself, so one client has all addresses of it."""


@dataclass(frozen=True, slots=True)
class Spent:
    """A request counted against a limit."""

    requests_per_minute: int

    retry_after_seconds: int
    """0 if the request was within the limit."""

    headers: Headers
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""


class Limit:
    """A number of requests a minute, counted for each of many callers."""

    def __init__(self, policy: str, requests_per_minute: int, store: MemoryStore) -> None:
        self._policy = policy
        self._requests_per_minute = requests_per_minute
        self._limiter = Throttled(
            using=RateLimiterType.SLIDING_WINDOW.value,
            quota=rate_limiter.per_min(requests_per_minute),
            store=store,
        )
        self._policy_header = f'"{policy}";q={requests_per_minute};w={SECONDS}'.encode()

    def spend(self, caller: str) -> Spent:
        """Count a request of a caller."""
        result = self._limiter.limit(caller)
        state = result.state
        retry_after = max(1, math.ceil(state.retry_after)) if result.limited else 0
        left = 0 if result.limited else state.remaining
        # A sliding window has no moment at which all begins anew: what is left is for the next
        # minute, or comes back after `retry_after`.
        limit = f'"{self._policy}";r={left};t={retry_after or SECONDS}'
        headers = [(b"ratelimit-policy", self._policy_header), (b"ratelimit", limit.encode())]
        return Spent(self._requests_per_minute, retry_after, headers)


class KeyLimits:
    """The limits of keys. Keys with the same limit share a `Limit`."""

    def __init__(self) -> None:
        self._store = _store(MAX_KEYS)
        self._limits: dict[int, Limit] = {}

    def spend(self, key_id: str, requests_per_minute: int) -> Spent | None:
        """Count a request with a key; None if the key has no limit."""
        if not requests_per_minute:
            return None
        limit = self._limits.get(requests_per_minute)
        if limit is None:
            limit = Limit("key", requests_per_minute, self._store)
            self._limits[requests_per_minute] = limit
        return limit.spend(key_id)


class AddressLimit:
    """The limit of each client address. Of IPv6 a /64 counts as one."""

    def __init__(self, requests_per_minute: int) -> None:
        self._limit = Limit("address", requests_per_minute, _store(MAX_ADDRESSES))

    def spend(self, address: str) -> Spent:
        """Count a request from an address."""
        return self._limit.spend(network_of(address))


def _store(callers: int) -> MemoryStore:
    return MemoryStore(options={"MAX_SIZE": callers * COUNTS_OF_ONE})


def network_of(address: str) -> str:
    """Return the network whose clients count as one."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except ValueError:  # a proxy may say what it likes in `X-Forwarded-For`
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), IPV6_PREFIX), strict=False))
