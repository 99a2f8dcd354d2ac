"""How long to wait between attempts."""

from itertools import islice

import pytest

from app.backoff import Backoff


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
