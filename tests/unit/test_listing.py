"""Which times and statuses `pagemeta list` takes."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from app.cli.listing import listed_status, moment
from app.models import PageStatus


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00.5+01:00", datetime(2026, 1, 1, 11, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_taken_as_it_is(text: str, time: datetime) -> None:
    assert moment(text) == time


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
    ],
)
def test_an_age_is_counted_from_now(text: str, ago: timedelta) -> None:
    assert abs(datetime.now(UTC) - ago - moment(text)) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["", "7", "7w", "-2h", "yesterday", "999999999d", "2026-13-01"])
def test_what_is_neither_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="or an age such as 2h or 7d"):
        moment(text)


@pytest.mark.parametrize("text", ["COMPLETED", "completed"])
def test_a_status_is_taken_in_any_case(text: str) -> None:
    assert listed_status(text) is PageStatus.COMPLETED


@pytest.mark.parametrize("text", ["", "done", "DELETED"])
def test_the_statuses_that_are_listed_are_named_to_whoever_gives_another(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"give one of QUEUED, .*, FAILED_PERMANENT$"):
        listed_status(text)
