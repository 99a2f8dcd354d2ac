from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fetcher.cookies import cookies_in, parse_cookie, parse_date
from app.models import Cookie, Header

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse(text: str, host: str = "shop.test", path: str = "/") -> Cookie:
    return parse_cookie(text, host, path)


def test_every_attribute_is_kept() -> None:
    assert parse(
        "a=b=c; Domain=.Shop.test; Path=/cart; Expires=Wed, 21 Oct 2026 07:28:00 GMT; "
        "Max-Age=3600; Secure; HttpOnly; SameSite=Lax; Priority=High; Partitioned"
    ) == Cookie(
        name="a",
        value="b=c",
        domain=".Shop.test",
        path="/cart",
        expires=datetime(2026, 10, 21, 7, 28, tzinfo=UTC),
        max_age=3600,
        secure=True,
        http_only=True,
        same_site="Lax",
    )


def test_attributes_are_found_in_any_case_and_with_any_space() -> None:
    cookie = parse("a=b;SECURE;httponly ;  sameSITE = strict;MAX-AGE= 5 ;path=/x")
    assert (cookie.secure, cookie.http_only, cookie.same_site) == (True, True, "strict")
    assert (cookie.max_age, cookie.path) == (5, "/x")


@pytest.mark.parametrize(
    ("asked_for", "default"),
    [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b/", "/a/b"), ("", "/")],
)
def test_domain_and_path_fall_back_to_the_host_and_the_default_path(
    asked_for: str, default: str
) -> None:
    for text in ("a=b", "a=b; Domain=; Path="):
        cookie = parse(text, path=asked_for)
        assert (cookie.domain, cookie.path) == ("shop.test", default)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a=b", "a", "b"),
        (" a = b ", "a", "b"),
        ('a="b"', "a", '"b"'),
        ("a=", "a", ""),
        ("=b", "", "b"),
        ("b", "", "b"),
        ("", "", ""),
        ("a=\xe9\x01", "a", "\xe9\x01"),
        ("__Host-a=b; Domain=other.test", "__Host-a", "b"),
    ],
)
def test_a_cookie_that_a_browser_would_refuse_is_recorded_like_any_other(
    text: str, name: str, value: str
) -> None:
    cookie = parse(text)
    assert (cookie.name, cookie.value) == (name, value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("0", 0),
        ("-1", -1),
        ("", None),
        ("soon", None),
        ("1.5", None),
        ("9" * 30, 2**63 - 1),
        ("-" + "9" * 30, 1 - 2**63),
        ("9" * 10_000, None),
        ("\u0663", None),
    ],
)
def test_max_age_is_a_number_that_can_be_stored_or_nothing(text: str, seconds: int | None) -> None:
    assert parse(f"a=b; Max-Age={text}").max_age == seconds


@pytest.mark.parametrize(
    "text",
    [
        "Wed, 21 Oct 2026 07:28:00 GMT",
        "Wed, 21-Oct-2026 07:28:00 GMT",
        "Wednesday, 21-Oct-26 07:28:00 GMT",
        "Wed Oct 21 07:28:00 2026",
        "21 october 2026 7:28:0 whatever",
        "2026 07:28:00 Oct 21",
        "Wed, 21 Oct 2026 07:28:00 +0200",
    ],
)
def test_dates_are_read_the_way_browsers_read_them(text: str) -> None:
    assert parse_date(text) == datetime(2026, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "year"), [("69", 2069), ("70", 1970), ("99", 1999), ("00", 2000), ("1601", 1601)]
)
def test_years_of_two_digits_are_those_from_1970_to_2069(text: str, year: int) -> None:
    date = parse_date(f"Thu, 01-Jan-{text} 00:00:00 GMT")
    assert date is not None
    assert date.year == year


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "tomorrow",
        "Wed, 31 Feb 2026 07:28:00 GMT",
        "Wed, 21 Oct 2026 25:28:00 GMT",
        "Wed, 21 Oct 02026 07:28:00 GMT",
        "Wed, 21 Oct 2026",
        "9" * 10_000,
        "Wed, 21 Oct 2026 07:28:00 GMT" + " " * 100,
    ],
)
def test_an_invalid_date_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_cookies_come_in_the_order_they_were_sent() -> None:
    headers = [Header("set-cookie", "b=1"), Header("x", "y"), Header("set-cookie", "a=2")]
    assert [cookie.name for cookie in cookies_in(headers, "shop.test", "/")] == ["b", "a"]


@given(st.text())
def test_no_header_is_too_odd(text: str) -> None:
    parse(text)
    parse_date(text)


@given(st.datetimes(min_value=datetime(1601, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_a_date_written_as_http_writes_it_is_read_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    written = f"{moment:%a, %d %b} {moment.year:04} {moment:%H:%M:%S} GMT"
    assert parse_date(written) == moment
