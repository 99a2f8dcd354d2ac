"""How many requests a minute one process takes, with one key or from one address.

Processes count for themselves: N of them take N times as many requests. What all of them share, and
what bounds the work of the service, is the length of the request queue.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network

from throttled.store import MemoryStore

from app.rates import MinuteLimit, store_for

Headers = list[tuple[bytes, bytes]]

SECONDS = 60

MAX_ADDRESSES = 20_000
"""Beyond so many in two minutes the ones unused the longest begin anew. They take 8 MB."""

MAX_KEYS = 20_000

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
        self._limit = MinuteLimit(requests_per_minute, store)
        self._policy_header = f'"{policy}";q={requests_per_minute};w={SECONDS}'.encode()

    def spend(self, caller: str) -> Spent:
        """Count a request of a caller."""
        use = self._limit.use(caller)
        # A sliding window has no moment at which all begins anew: what is left is for the next
        # minute, or comes back after `retry_after_seconds`.
        limit = f'"{self._policy}";r={use.left};t={use.retry_after_seconds or SECONDS}'
        headers = [(b"ratelimit-policy", self._policy_header), (b"ratelimit", limit.encode())]
        return Spent(self._requests_per_minute, use.retry_after_seconds, headers)


class KeyLimits:
    """The limits of keys. Keys with the same limit share a `Limit`."""

    def __init__(self) -> None:
        self._store = store_for(MAX_KEYS)
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
        self._limit = Limit("address", requests_per_minute, store_for(MAX_ADDRESSES))

    def spend(self, address: str) -> Spent:
        """Count a request from an address."""
        return self._limit.spend(network_of(address))


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
