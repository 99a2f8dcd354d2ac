"""What is tried again, and when. Pure functions: nothing is fetched, stored or waited for here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from app.errors import FetchError
from app.http_dates import parse_http_date
from app.models import ErrorKind, PageError, PageMetadata

TRY_AGAIN_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that ask to try again later, and say nothing about the page (RFC 9110, 15.5, 15.6)."""

SHORT_DELAYS_WITHOUT_DATABASE = 1
"""How often a message waits the first retry delay while the database is away. Afterwards it waits
the second: work is to go on soon after the database is back."""

SHORT_DELAYS_WHILE_BUSY = 6
"""How often a message waits the first retry delay because the page's host is busy, or because the
page is being fetched for another request. Either is over in seconds as a rule. Afterwards it waits
the second: otherwise hundreds of messages for one slow host would come back after each first delay
for as long as the host takes, and cost more than the pages of other hosts."""

DEFERRALS_WITH_EACH_DELAY = 6
"""How often a message that is put off by a bound on fetches a minute waits each of the delays, from
the second on. So a few messages come back about when their host may be asked again, and thousands
of one host, which wait for hours, come back rarely."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The response is the page."""

    metadata: PageMetadata


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The next attempt may go better; it is due in `delay_seconds`."""

    error: PageError
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt will be made; `metadata` is the last response, if there was one."""

    error: PageError
    metadata: PageMetadata | None = None


Decision = Keep | TryAgain | GiveUp


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a page is tried, and the waits before attempt 2, 3 and so on.

    The last delay repeats.
    """

    max_attempts: int
    delays_seconds: tuple[float, ...]

    def judge(self, result: PageMetadata | FetchError, attempt: int) -> Decision:
        """Say what becomes of a page after attempt number `attempt` (from 1)."""
        match result:
            case FetchError(retryable=False):
                return GiveUp(result.as_page_error())
            case FetchError():
                return self._again_or_never(result.as_page_error(), attempt)
            case PageMetadata(status_code=status) if status in TRY_AGAIN_STATUSES:
                return self._after_status(result, attempt)
            case _:
                return Keep(result)

    def delay_after(self, attempt: int) -> float:
        """Return the seconds between attempt number `attempt` and the next one."""
        return self.delays_seconds[min(attempt, len(self.delays_seconds)) - 1]

    def delay_of_deferral(self, deferrals: int, short_delays: int) -> float:
        """Return the seconds until a message that was deferred `deferrals` times comes back.

        It waits the first delay `short_delays` times, the second one from then on.
        """
        return self.delay_after(1 if deferrals <= short_delays else 2)

    def delay_without_database(self, deferrals: int) -> float:
        """Return the seconds for a message that is deferred because the database is away."""
        return self.delay_of_deferral(deferrals, SHORT_DELAYS_WITHOUT_DATABASE)

    def delay_while_busy(self, deferrals: int) -> float:
        """Return the seconds for a message that is deferred because its host or page is busy."""
        return self.delay_of_deferral(deferrals, SHORT_DELAYS_WHILE_BUSY)

    def delay_at_bound(self, deferrals: int) -> float:
        """Return the seconds for a message whose host was asked as often as it may be in a minute.

        The second delay comes first, as a minute is not over in seconds, and then the longer ones.
        """
        return self.delay_after(2 + (deferrals - 1) // DEFERRALS_WITH_EACH_DELAY)

    def _after_status(self, metadata: PageMetadata, attempt: int) -> Decision:
        status = metadata.status_code
        error = PageError(
            ErrorKind.HTTP_STATUS, f"the server answered {status} {HTTPStatus(status).phrase}"
        )
        return self._again_or_never(error, attempt, metadata)

    def _again_or_never(
        self, error: PageError, attempt: int, metadata: PageMetadata | None = None
    ) -> Decision:
        if attempt >= self.max_attempts:
            return GiveUp(error, metadata)
        asked_for = retry_after_seconds(metadata) if metadata else 0.0
        return TryAgain(error, self._scheduled(max(self.delay_after(attempt), asked_for)))

    def _scheduled(self, seconds: float) -> float:
        """Round up to one of the delays, each of which has a queue; the longest is the limit."""
        delays = sorted(self.delays_seconds)
        return next((delay for delay in delays if delay >= seconds), delays[-1])


def retry_after_seconds(metadata: PageMetadata) -> float:
    """Read `Retry-After` (RFC 9110, 10.2.3): seconds or a date, 0 where there is none."""
    values = (h.value.strip() for h in metadata.headers if h.name.lower() == "retry-after")
    value = next(values, "0")
    if value.isascii() and value.isdecimal():
        return float(value)
    return _seconds_until(value, metadata.fetched_at)


def _seconds_until(http_date: str, now: datetime) -> float:
    moment = parse_http_date(http_date)
    return max(0.0, (moment - now).total_seconds()) if moment else 0.0


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

    def longest_seconds(self, attempt_seconds: float) -> float:
        """Return how long all attempts take at most if each takes `attempt_seconds`."""
        return sum(delay + attempt_seconds for _, delay in self.schedule())


WRITE_AGAIN = Backoff(initial=0.5, maximum=5, multiplier=2, attempts=5)
"""How a worker tries again to store the outcome of an attempt while the database is away. Each try
is bounded by the database's own timeout. After the last one the message is deferred."""

REFUSED_RETRY = Backoff(initial=0.5, maximum=10, multiplier=2, attempts=1)
"""How long to wait before a retry that the broker has not confirmed is published again. Only its
`delay()` is used: a retry is published again until the broker takes it."""
