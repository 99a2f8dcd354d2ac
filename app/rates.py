"""Counts what somebody may do so many times a minute: requests of a caller, fetches at a host.

throttled-py counts by its sliding window: the uses of this minute, and those of the minute before
in proportion to how much of that the last 60 seconds hold. That takes two numbers for each name,
however many its uses are. Its store keeps a bounded number of names, and forgets those unused the
longest.
"""

import math
from dataclasses import dataclass

from throttled import RateLimiterType, Throttled, rate_limiter
from throttled.store import MemoryStore

COUNTS_OF_ONE = 2
"""The numbers that the sliding window has of each name."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use, counted. One that is over the limit does not count."""

    left: int
    """How many more may follow at once."""

    retry_after_seconds: int
    """0 if the use was within the limit."""


class MinuteLimit:
    """A number of uses a minute, counted for each of many names. Limits may share a store."""

    def __init__(self, per_minute: int, store: MemoryStore) -> None:
        self._limiter = Throttled(
            using=RateLimiterType.SLIDING_WINDOW.value,
            quota=rate_limiter.per_min(per_minute),
            store=store,
        )

    def use(self, name: str) -> Use:
        """Count a use."""
        result = self._limiter.limit(name)
        if result.limited:
            return Use(0, max(1, math.ceil(result.state.retry_after)))
        return Use(result.state.remaining, 0)


def store_for(names: int) -> MemoryStore:
    """Return a store that keeps the counts of so many names."""
    return MemoryStore(options={"MAX_SIZE": names * COUNTS_OF_ONE})
