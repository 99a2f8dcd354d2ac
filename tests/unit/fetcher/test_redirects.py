import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FetchError
from app.fetcher.head import ResponseHead
from app.fetcher.redirects import CookieJar, redirect_target
from app.models import ErrorKind, Header

BASE = "http://a.test/dir/page?q=1"


def answer(*locations: str, status: int = 302) -> ResponseHead:
    return ResponseHead("HTTP/1.1", status, tuple(Header("location", at) for at in locations), b"")


def target(*locations: str, base: str = BASE, status: int = 302) -> str | None:
    found = redirect_target(httpx.URL(base), answer(*locations, status=status))
    return str(found) if found else None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_to_its_location(status: int) -> None:
    assert target("http://b.test/x", status=status) == "http://b.test/x"


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 404, 503])
def test_another_status_leads_nowhere_whatever_its_location(status: int) -> None:
    assert target("http://b.test/x", status=status) is None


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("next", "http://a.test/dir/next"),
        ("/next", "http://a.test/next"),
        ("../next", "http://a.test/next"),
        ("?q=2", "http://a.test/dir/page?q=2"),
        ("//b.test/x", "http://b.test/x"),
        ("HTTP://B.test/x", "http://b.test/x"),
        ("http://b.test", "http://b.test/"),
        ("/a/../\xc3\xa9", "http://a.test/%C3%A9"),
        ("http://0x7f.1\\a", "http://127.0.0.1/a"),
        ("/a b", "http://a.test/a%20b"),
        ("/\xe9", "http://a.test/%C3%A9"),
        ("/\xc3\xa9", "http://a.test/%C3%A9"),
        ("http://b\xc3\xbccher.test/", "http://xn--bcher-kva.test/"),
        ("http://xn--zz.test/", "http://xn--zz.test/"),
    ],
)
def test_a_location_is_seen_from_the_page_that_sent_it(location: str, expected: str) -> None:
    assert target(location) == expected


def test_a_fragment_is_left_out() -> None:
    assert target("/next#other", base="http://a.test/#part") == "http://a.test/next"


def test_equal_locations_count_as_one_and_different_ones_lead_nowhere() -> None:
    assert target("/next", "/next") == "http://a.test/next"
    assert target("/next", "/other") is None
    assert target() is None


def test_an_empty_location_leads_nowhere() -> None:
    assert target("") is None
    assert target("", "/next") == "http://a.test/next"


def test_a_redirect_to_a_longer_url_than_is_taken_is_an_invalid_response() -> None:
    longest = "http://a.test/".ljust(2083, "x")
    assert target(longest) == longest
    with pytest.raises(FetchError, match="more than 2083") as raised:
        target(f"{longest}x")
    assert raised.value.kind is ErrorKind.INVALID_RESPONSE


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1/",
        "http://[zz]/",
        "http://a.test:port/",
        "http://1.2.3.456/",
        "http://\x01.test/",
        "http://\xe2\x80\x8d.test/",
        "http://b.test\xef\xbc\x8fevil/",
        "http://b test/",
        "http://%00.test/",
        "http://b.test:70000/",
        "//",
        "x" * 70_000,
    ],
)
def test_a_redirect_to_what_is_no_url_is_an_invalid_response(location: str) -> None:
    with pytest.raises(FetchError) as caught:
        target(location)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INVALID_RESPONSE, False)


_PIECES = [
    *["http:", "https://", "//", "/", "\\", "a.test", "xn--", "xn--zz", "[::1]", "[", ":80"],
    *[":", "@", "?", "#", "%", "%zz", "..", "\xe9", "\xc3\xa9", "\x00", "\r"],
]


@given(st.text(st.characters(max_codepoint=255)) | st.lists(st.sampled_from(_PIECES)).map("".join))
def test_any_location_leads_to_a_url_or_is_an_invalid_response(location: str) -> None:
    try:
        target(location)
    except FetchError as error:
        assert error.kind is ErrorKind.INVALID_RESPONSE  # noqa: PT017 - one of two good endings


def sent(to: str, *cookies: str, by: str = "http://www.a.test/dir/page") -> str | None:
    """Return the cookies that a request for `to` carries after `by` has set `cookies`."""
    jar = CookieJar()
    jar.keep(httpx.URL(by), [Header("set-cookie", cookie) for cookie in cookies])
    headers = dict(jar.header_for(httpx.URL(to)))
    return headers.get("Cookie")


def test_a_cookie_goes_back_to_its_host_alone() -> None:
    assert sent("http://www.a.test/dir/", "a=1") == "a=1"
    assert sent("https://www.a.test:8443/dir/x", "a=1") == "a=1"
    for host in ("a.test", "b.test", "x.www.a.test", "wwww.a.test"):
        assert sent(f"http://{host}/dir/", "a=1") is None


@pytest.mark.parametrize("domain", ["a.test", ".a.test", "A.TEST"])
def test_a_cookie_for_a_domain_goes_to_every_host_of_it(domain: str) -> None:
    for host in ("a.test", "www.a.test", "x.y.a.test"):
        assert sent(f"http://{host}/dir/", f"a=1; Domain={domain}") == "a=1"
    for host in ("ba.test", "b.test", "test"):
        assert sent(f"http://{host}/dir/", f"a=1; Domain={domain}") is None


@pytest.mark.parametrize("domain", ["test", ".test", "b.test", "x.www.a.test", "ww.a.test"])
def test_no_host_sets_a_cookie_for_a_domain_that_is_not_its_own(domain: str) -> None:
    for host in ("a.test", "www.a.test", "b.test", "x.www.a.test"):
        assert sent(f"http://{host}/dir/", f"a=1; Domain={domain}") is None


def test_an_address_has_no_domain() -> None:
    by = "http://127.0.0.1/"
    assert sent("http://127.0.0.1/", "a=1; Domain=127.0.0.1", by=by) == "a=1"
    assert sent("http://7.0.0.1/", "a=1; Domain=0.0.1", by=by) is None
    assert sent("http://127.0.0.1/", "a=1; Domain=0.0.1", by=by) is None


@pytest.mark.parametrize(
    ("attribute", "included", "excluded"),
    [
        ("", ["/dir", "/dir/", "/dir/x"], ["/", "/directory", "/other"]),
        ("; Path=/", ["/", "/x/y"], []),
        ("; Path=/x", ["/x", "/x/", "/x/y"], ["/", "/xy", "/dir/x"]),
        ("; Path=/x/", ["/x/", "/x/y"], ["/x", "/xy"]),
        ("; Path=nonsense", ["/dir/x"], ["/"]),
    ],
)
def test_a_cookie_goes_to_its_path_and_below(
    attribute: str, included: list[str], excluded: list[str]
) -> None:
    for path in included:
        assert sent(f"http://www.a.test{path}?q=/", f"a=1{attribute}") == "a=1"
    for path in excluded:
        assert sent(f"http://www.a.test{path}", f"a=1{attribute}") is None


def test_a_secure_cookie_goes_over_tls_alone_and_comes_over_tls_alone() -> None:
    by = "https://www.a.test/"
    assert sent("https://www.a.test/", "a=1; Secure", by=by) == "a=1"
    assert sent("http://www.a.test/", "a=1; Secure", by=by) is None
    assert sent("https://www.a.test/", "a=1; Secure", by="http://www.a.test/") is None


def test_the_cookie_with_the_longest_path_comes_first_and_then_the_oldest() -> None:
    cookies = ("a=1; Path=/", "b=2; Path=/dir", "c=3; Path=/", "d=4; Path=/dir")
    assert sent("http://www.a.test/dir/", *cookies) == "b=2; d=4; a=1; c=3"


def test_a_cookie_replaces_the_one_of_the_same_name_domain_and_path() -> None:
    assert sent("http://www.a.test/dir/", "a=1", "b=1", "a=2") == "a=2; b=1"
    assert sent("http://www.a.test/dir/", "a=1; Path=/", "a=2") == "a=2; a=1"


@pytest.mark.parametrize(
    "expiry", ["Max-Age=0", "Max-Age=-1", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
)
def test_a_cookie_that_has_expired_is_deleted(expiry: str) -> None:
    assert sent("http://www.a.test/dir/", "a=1", "b=1", f"a=; {expiry}") == "b=1"


def test_max_age_counts_for_more_than_expires() -> None:
    past, future = "Expires=Thu, 01 Jan 1970 00:00:00 GMT", "Expires=Fri, 01 Jan 2100 00:00:00 GMT"
    assert sent("http://www.a.test/dir/", f"a=1; {past}; Max-Age=9") == "a=1"
    assert sent("http://www.a.test/dir/", f"a=1; {future}; Max-Age=0") is None


def test_a_cookie_without_a_name_is_sent_as_a_value() -> None:
    assert sent("http://www.a.test/dir/", "odd") == "odd"


@pytest.mark.parametrize("bad", ["\r", "\x00", "\x0b", "\x7f", "\x1f"])
def test_a_cookie_with_control_characters_is_not_sent(bad: str) -> None:
    assert sent("http://www.a.test/dir/", f"a=1{bad}Evil: 1", "b=2", f"c=3; Path=/{bad}") == "b=2"


@given(st.text(st.characters(max_codepoint=255)))
def test_no_cookie_is_too_odd_to_be_kept(text: str) -> None:
    header = sent("http://www.a.test/dir/", text) or ""
    assert not {"\r", "\n", "\x00"} & set(header)
