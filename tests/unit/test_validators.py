"""Which validators of a stored page are sent back to its server."""

from typing import Any

import pytest

from app.models import Header, Validators
from app.validators import validators_of
from tests.fakes import URL, a_page

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
SENT = ("date", "Fri, 02 Jan 2026 00:00:00 GMT")


def given(*headers: tuple[str, str], **changes: Any) -> Validators | None:
    named = tuple(Header(name, value) for name, value in headers)
    return validators_of(a_page(headers=named, **changes))


@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', '""', '"é-\xff"', '"a,b"'])
def test_a_strong_or_weak_etag_is_sent_back_as_it_came(etag: str) -> None:
    assert given(("etag", etag)) == Validators(URL, etag, None)


@pytest.mark.parametrize(
    "etag",
    ["*", "v1", '"a b"', '"v1', 'w/"v1"', '"a"b"', '"a\rX: y"', '"a\x00"', f'"{"x" * 1001}"', ""],
)
def test_what_is_no_etag_is_not_sent_back(etag: str) -> None:
    assert given(("etag", etag)) is None


def test_a_date_is_sent_back_as_it_came() -> None:
    assert given(SENT, ("last-modified", DATE)) == Validators(URL, None, DATE)
    assert given(SENT, ("etag", '"v1"'), ("last-modified", DATE)) == Validators(URL, '"v1"', DATE)


@pytest.mark.parametrize(
    "date", ["yesterday", "", "0", "Thu, 01 Jan 99999999999 00:00:00 GMT", f"{DATE}\r\x00"]
)
def test_what_is_no_date_is_not_sent_back(date: str) -> None:
    assert given(SENT, ("last-modified", date)) is None


@pytest.mark.parametrize("name", ["etag", "last-modified"])
def test_validators_that_contradict_each_other_are_not_sent_back(name: str) -> None:
    values = {"etag": ('"v1"', '"v2"'), "last-modified": (DATE, DATE.replace("2026", "2025"))}
    assert given(SENT, *((name, value) for value in values[name])) is None
    assert given(SENT, (name, values[name][0]), (name, values[name][0])) is not None


@pytest.mark.parametrize(
    ("sent", "is_used"),
    [
        ("Thu, 01 Jan 2026 00:00:00 GMT", False),
        ("Wed, 31 Dec 2025 23:59:59 GMT", False),
        ("Thu, 01 Jan 2026 00:00:01 GMT", True),
        ("Thu, 01 Jan 2026 00:00:01 -0000", True),
        ("some day", False),
        ("1 Jan GMT 00:00:00 -1999", False),  # the first day of the year 1
    ],
)
def test_a_date_is_not_used_if_the_page_may_have_changed_again_in_the_same_second(
    sent: str, *, is_used: bool
) -> None:
    found = given(("last-modified", DATE), ("date", sent))
    assert (found is not None) is is_used


@pytest.mark.parametrize("status", [203, 206, 404, 410, 301])
def test_only_a_page_that_was_answered_200_has_validators(status: int) -> None:
    assert given(("etag", '"v1"'), status_code=status) is None


def test_a_page_that_was_cut_is_fetched_anew() -> None:
    assert given(("etag", '"v1"'), page_source_truncated=True) is None


def test_validators_belong_to_the_url_at_the_end_of_the_redirects() -> None:
    found = given(("etag", '"v1"'), final_url="https://example.com/end")
    assert found == Validators("https://example.com/end", '"v1"', None)
