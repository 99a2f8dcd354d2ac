"""How long to wait between attempts to reach a server."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff: `initial`, times `multiplier` after each attempt, at most `maximum`.

    The delays are in seconds; `attempts` is how often to try before giving up.
    """

    initial: float
    maximum: float
    multiplier: float
    attempts: int

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number `attempt` (from 1)."""
        # The exponent is capped so that years of attempts do not overflow a float.
        return min(self.initial * self.multiplier ** min(attempt - 1, 64), self.maximum)

    def schedule(self) -> Iterator[tuple[int, float]]:
        """Yield each attempt's number and the seconds to wait before it; the first waits 0."""
        yield 1, 0.0
        for attempt in range(2, self.attempts + 1):
            yield attempt, self.delay(attempt - 1)
