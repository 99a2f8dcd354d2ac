"""What is tried again and when, as a table."""

from datetime import timedelta
from email.utils import format_datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FetchError
from app.models import ErrorKind, Header, PageError, PageMetadata
from app.retries import Backoff, Decision, GiveUp, Keep, RetryPolicy, TryAgain, retry_after_seconds
from tests.fakes import NOW, a_page

POLICY = RetryPolicy(max_attempts=5, delays_seconds=(5, 30, 120, 600))
IN_A_MINUTE = format_datetime(NOW + timedelta(minutes=1), usegmt=True)


def a_fault(kind: ErrorKind, *, retryable: bool) -> FetchError:
    return FetchError(kind, f"about {kind}", retryable=retryable)


def asked_to_wait(retry_after: str, status_code: int = 503) -> PageMetadata:
    return a_page(status_code, headers=(Header("Retry-After", retry_after),))


def delay_of(decision: Decision) -> float:
    assert isinstance(decision, TryAgain)
    return decision.delay_seconds


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize("attempt", [1, 4])
def test_a_fault_that_may_pass_is_tried_again_whatever_its_kind(
    kind: ErrorKind, attempt: int
) -> None:
    decision = POLICY.judge(a_fault(kind, retryable=True), attempt)
    assert decision == TryAgain(PageError(kind, f"about {kind}"), POLICY.delay_after(attempt))


@pytest.mark.parametrize("kind", ErrorKind)
def test_a_fault_that_stays_ends_the_request_at_its_first_attempt(kind: ErrorKind) -> None:
    decision = POLICY.judge(a_fault(kind, retryable=False), 1)
    assert decision == GiveUp(PageError(kind, f"about {kind}"))


@pytest.mark.parametrize("attempt", [5, 6, 100])
def test_a_fault_at_the_last_attempt_is_final(attempt: int) -> None:
    decision = POLICY.judge(a_fault(ErrorKind.TIMEOUT, retryable=True), attempt)
    assert decision == GiveUp(PageError(ErrorKind.TIMEOUT, "about timeout"))


def test_a_single_attempt_is_never_followed_by_another() -> None:
    policy = RetryPolicy(max_attempts=1, delays_seconds=(5,))
    assert isinstance(policy.judge(a_page(503), 1), GiveUp)


@pytest.mark.parametrize("attempt", [1, 5, 6])
@pytest.mark.parametrize(
    "status", [100, 200, 204, 206, 301, 304, 400, 401, 403, 404, 410, 418, 451, 501, 505, 599, 999]
)
def test_a_response_of_any_other_status_is_the_page(status: int, attempt: int) -> None:
    page = a_page(status)
    assert POLICY.judge(page, attempt) == Keep(page)


AGAIN = {
    408: "Request Timeout",
    425: "Too Early",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@pytest.mark.parametrize(("status", "phrase"), AGAIN.items())
def test_a_status_that_says_not_now_is_tried_again(status: int, phrase: str) -> None:
    error = PageError(ErrorKind.HTTP_STATUS, f"the server answered {status} {phrase}")
    assert POLICY.judge(a_page(status), 1) == TryAgain(error, 5)


@pytest.mark.parametrize(("status", "phrase"), AGAIN.items())
def test_such_a_status_at_the_last_attempt_is_final_and_keeps_the_response(
    status: int, phrase: str
) -> None:
    error = PageError(ErrorKind.HTTP_STATUS, f"the server answered {status} {phrase}")
    assert POLICY.judge(a_page(status), 5) == GiveUp(error, a_page(status))


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 5), (2, 30), (3, 120), (4, 600), (5, 600), (100, 600)]
)
def test_the_last_delay_repeats(attempt: int, seconds: float) -> None:
    assert POLICY.delay_after(attempt) == seconds


@pytest.mark.parametrize(
    ("deferrals", "short_delays", "seconds"),
    [(1, 1, 5), (2, 1, 30), (100, 1, 30), (1, 6, 5), (6, 6, 5), (7, 6, 30), (1, 0, 30)],
)
def test_a_deferred_message_waits_the_first_delay_so_often_and_then_the_second(
    deferrals: int, short_delays: int, seconds: float
) -> None:
    assert POLICY.delay_of_deferral(deferrals, short_delays) == seconds


@pytest.mark.parametrize(
    ("deferrals", "seconds"),
    [(1, 30), (6, 30), (7, 120), (12, 120), (13, 600), (10**6, 600)],
)
def test_a_message_beyond_the_fetches_of_a_minute_comes_back_more_and_more_rarely(
    deferrals: int, seconds: float
) -> None:
    assert POLICY.delay_at_bound(deferrals) == seconds


def test_where_there_is_one_delay_it_comes_back_after_that() -> None:
    assert {RetryPolicy(3, (1,)).delay_at_bound(deferrals) for deferrals in (1, 7, 100)} == {1}


@pytest.mark.parametrize(
    ("retry_after", "attempt", "seconds"),
    [
        pytest.param("0", 1, 5, id="nothing asked for"),
        pytest.param("5", 1, 5, id="the delay itself"),
        pytest.param("6", 1, 30, id="between two delays, the longer one"),
        pytest.param("3", 2, 30, id="sooner than the attempt's own delay"),
        pytest.param("31", 2, 120, id="later than the attempt's own delay"),
        pytest.param("600", 1, 600, id="the longest delay"),
        pytest.param("601", 1, 600, id="longer than the longest delay"),
        pytest.param("9" * 4000, 1, 600, id="longer than a number may be"),
        pytest.param(IN_A_MINUTE, 1, 120, id="a date in a minute"),
        pytest.param(format_datetime(NOW), 1, 5, id="a date that is now"),
        pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", 1, 5, id="a date long ago"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 1, 600, id="a date never to come"),
        pytest.param("soon", 1, 5, id="garbage"),
        pytest.param("", 1, 5, id="nothing"),
        pytest.param("-10", 1, 5, id="a negative number"),
        pytest.param("1.5e3", 1, 5, id="a number of another kind"),
        pytest.param("1 Jan 99999999999999999999 00:00:00 GMT", 1, 5, id="a year beyond any date"),
        pytest.param("1 Jan 2026 00:00:00 +99999999999999", 1, 5, id="a zone beyond any"),
    ],
)
def test_the_wait_a_server_asks_for_becomes_one_of_the_delays(
    retry_after: str, attempt: int, seconds: float
) -> None:
    assert delay_of(POLICY.judge(asked_to_wait(retry_after), attempt)) == seconds


def test_a_wait_is_heard_with_every_status_that_says_not_now() -> None:
    delays = {delay_of(POLICY.judge(asked_to_wait("100", status), 1)) for status in AGAIN}
    assert delays == {120}


def test_a_wait_that_is_asked_for_gives_no_further_attempt() -> None:
    assert isinstance(POLICY.judge(asked_to_wait("10"), 5), GiveUp)


def test_a_delay_is_one_of_those_there_is_a_queue_for_even_out_of_order() -> None:
    policy = RetryPolicy(max_attempts=9, delays_seconds=(60, 5, 30))
    delays = [delay_of(policy.judge(a_page(503), attempt)) for attempt in (1, 2, 3, 4)]
    assert delays == [60, 5, 30, 30]
    assert delay_of(policy.judge(asked_to_wait("31"), 2)) == 60


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("120", 120, id="seconds"),
        pytest.param(" 120 ", 120, id="seconds with white space"),
        pytest.param("120, 60", 0, id="a list"),
        pytest.param("²", 0, id="a digit that is none"),
        pytest.param("१२", 0, id="digits of another script"),
        pytest.param(IN_A_MINUTE, 60, id="an HTTP date"),
        pytest.param("Thu, 01 Jan 2026 01:02:00 +0100", 120, id="a date in another zone"),
        pytest.param("Thu, 01 Jan 2026 00:02:00 -0000", 120, id="a date without a zone"),
        pytest.param("Thursday, 01-Jan-26 00:02:00 GMT", 120, id="a date in the form of RFC 850"),
        pytest.param("Thu Jan  1 00:02:00 2026", 120, id="a date in the form of asctime"),
        pytest.param("Thu, 32 Jan 2026 00:02:00 GMT", 0, id="a date there is not"),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(value: str, seconds: float) -> None:
    assert retry_after_seconds(asked_to_wait(value)) == seconds


# Text that the parser of dates takes at least in part.
_WORDS = ["Mon,", "1", "32", "Jan", "2026", "0", "9" * 20, "23:59:59", "GMT", "-0000", "+2359", "é"]


@given(st.text() | st.lists(st.sampled_from(_WORDS)).map(" ".join))
def test_whatever_retry_after_says_is_a_number_of_seconds(value: str) -> None:
    assert retry_after_seconds(asked_to_wait(value)) >= 0


def test_the_first_of_several_headers_counts_in_any_case() -> None:
    headers = (Header("x", "1"), Header("retry-AFTER", "7"), Header("Retry-After", "9"))
    assert retry_after_seconds(a_page(503, headers=headers)) == 7


def test_without_the_header_nothing_is_asked_for() -> None:
    assert retry_after_seconds(a_page(503)) == 0


def a_backoff(*, attempts: int = 6) -> Backoff:
    return Backoff(initial=1, maximum=10, multiplier=2, attempts=attempts)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10), (1000, 10)]
)
def test_each_delay_is_a_multiple_of_the_last_up_to_the_maximum(
    attempt: int, seconds: float
) -> None:
    assert a_backoff().delay(attempt) == seconds


def test_an_initial_delay_over_the_maximum_is_cut() -> None:
    assert Backoff(initial=60, maximum=30, multiplier=2, attempts=3).delay(1) == 30


def test_a_multiplier_of_one_keeps_the_delay() -> None:
    backoff = Backoff(initial=3, maximum=30, multiplier=1, attempts=3)
    assert {backoff.delay(attempt) for attempt in range(1, 100)} == {3}


def test_years_of_attempts_do_not_overflow() -> None:
    assert Backoff(initial=1, maximum=30, multiplier=1e4, attempts=1).delay(10**9) == 30


def test_the_first_attempt_is_made_at_once_and_the_others_after_their_delays() -> None:
    assert list(a_backoff().schedule()) == [(1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 10)]


def test_a_single_attempt_waits_for_nothing() -> None:
    assert list(a_backoff(attempts=1).schedule()) == [(1, 0)]


def test_a_schedule_may_be_followed_in_part() -> None:
    assert list(islice(a_backoff(attempts=10**9).schedule(), 2)) == [(1, 0), (2, 1)]
