"""What counts as the same URL, and what is no URL of ours."""
# ruff: noqa: RUF001 (characters that look like others are what some examples are about)

import re
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.schemas import PAGE_URL
from app.errors import InvalidUrl
from app.urls import MAX_URL_LENGTH, canonical_url

CANONICAL = {
    "kept as it is": ("https://example.com/a/b?c=d", "https://example.com/a/b?c=d"),
    "scheme and host in upper case": ("HTTPS://EXAMPLE.Com/A", "https://example.com/A"),
    "no path": ("https://example.com", "https://example.com/"),
    "no path, a query": ("https://example.com?a=b", "https://example.com/?a=b"),
    "an empty query": ("https://example.com/?", "https://example.com/?"),
    "a fragment": ("https://example.com/a#b", "https://example.com/a"),
    "an empty fragment": ("https://example.com/a#", "https://example.com/a"),
    "a question mark in the fragment": ("https://example.com/a#b?c", "https://example.com/a"),
    "the default port of http": ("http://example.com:80/", "http://example.com/"),
    "the default port of https": ("https://example.com:443/", "https://example.com/"),
    "the default port with a leading zero": ("http://example.com:080/", "http://example.com/"),
    "an empty port": ("http://example.com:/", "http://example.com/"),
    "the other scheme's port": ("http://example.com:443/", "http://example.com:443/"),
    "a port of its own": ("http://example.com:8080/", "http://example.com:8080/"),
    "path dots": ("http://example.com/a/../b/./c", "http://example.com/b/c"),
    "double slashes": ("http://example.com//a//b", "http://example.com//a//b"),
    "percent-encoding": (
        "http://example.com/%7ea%2Fb?%C3%a9",
        "http://example.com/%7ea%2Fb?%C3%a9",
    ),
    "path parameters": ("http://example.com/a;b=c", "http://example.com/a;b=c"),
    "a query in order": ("http://example.com/?b=1&a=2&b=3", "http://example.com/?b=1&a=2&b=3"),
    "a path that is not ASCII": ("http://example.com/é", "http://example.com/%C3%A9"),
    "white space around": (" \thttp://example.com/\r\n", "http://example.com/"),
    "an international name": ("http://bücher.example/", "http://xn--bcher-kva.example/"),
    "an international name in upper case": (
        "http://BÜCHER.example/",
        "http://xn--bcher-kva.example/",
    ),
    "an international name, encoded": (
        "http://XN--BCHER-KVA.example/",
        "http://xn--bcher-kva.example/",
    ),
    "a sharp s is a letter of its own": ("http://faß.de/", "http://xn--fa-hia.de/"),
    "full-width letters": ("http://ＥＸＡＭＰＬＥ.com/", "http://example.com/"),
    "an ideographic full stop": ("http://example。com/", "http://example.com/"),
    "digits in circles": ("http://①②⑦.0.0.1/", "http://127.0.0.1/"),
    "an underscore in the name": ("http://a_b.example.com/", "http://a_b.example.com/"),
    "a trailing dot is another name": ("http://example.com./", "http://example.com./"),
    "a snowman": ("http://☃.net/", "http://xn--n3h.net/"),
    "an encoded host": ("http://%65xample.com/", "http://example.com/"),
    "an IPv4 address in hexadecimal": ("http://0x7f.1/", "http://127.0.0.1/"),
    "an IPv4 address as a number": ("http://2130706433/", "http://127.0.0.1/"),
    "an IPv4 address in an IPv6 one": ("http://[::127.0.0.1]/", "http://[::7f00:1]/"),
    "backslashes for slashes": ("http:\\\\example.com\\a", "http://example.com/a"),
    "slashes left out": ("http:example.com/a", "http://example.com/a"),
    "a slash too many": ("http:///example.com/a", "http://example.com/a"),
    "an empty user": ("http://@example.com/", "http://example.com/"),
    "a user behind a backslash": (
        "http://example.com\\@example.org/",
        "http://example.com/@example.org/",
    ),
    "characters that are encoded": (
        'http://example.com/{}^<>"`?\'<>"',
        "http://example.com/%7B%7D%5E%3C%3E%22%60?%27%3C%3E%22",
    ),
    "an IPv4 address": ("http://192.0.2.1/", "http://192.0.2.1/"),
    "an IPv6 address": ("http://[2001:DB8:0:0::1]:80/", "http://[2001:db8::1]/"),
    "an IPv6 address with a port": ("http://[::1]:8080/a", "http://[::1]:8080/a"),
    "the longest there is": (
        f"http://a/{'b' * (MAX_URL_LENGTH - 9)}",
        f"http://a/{'b' * (MAX_URL_LENGTH - 9)}",
    ),
}

INVALID = {
    "empty": ("", "empty"),
    "white space": (" \t\n", "empty"),
    "no scheme": ("example.com", "http"),
    "a scheme of its own": ("ftp://example.com/", "http"),
    "a script": ("javascript:alert(1)", "http"),
    "a file": ("file:///etc/passwd", "http"),
    "relative to the scheme": ("//example.com/", "http"),
    "only a port": ("http://:80/", "not a valid URL"),
    "a user": ("http://user@example.com/", "credentials"),
    "a user and a password": ("http://user:secret@example.com/", "credentials"),
    "white space inside": ("http://example.com/a b", "white space"),
    "a new line inside": ("http://example.com/\r\nHost: evil", "white space"),
    "a tab in the scheme": ("ht\ttp://example.com/", "white space"),
    "a NUL": ("http://example.com/\0", "control"),
    "a DEL": ("http://example.com/\x7f", "control"),
    "half of a surrogate pair": ("http://example.com/\ud800", "surrogate"),
    "a port that is no number": ("http://example.com:http/", "port"),
    "a negative port": ("http://example.com:-1/", "port"),
    "a port too high": ("http://example.com:65536/", "port"),
    "full-width digits in the port": ("http://example.com:８０/", "port"),
    "an empty label": ("http://example..com/", "host name"),
    "a label too long": (f"http://{'a' * 64}.com/", "host name"),
    "a name too long": (f"http://{'a.' * 127}com/", "host name"),
    "an asterisk": ("http://*.example.com/", "host name"),
    "a character that becomes a slash": ("http://example.com／evil/", "not a valid URL"),
    "an emoji flag IDNA refuses": ("http://\u200d.example/", "not a valid URL"),
    "an open bracket": ("http://[::1/", "not a valid URL"),
    "no address in brackets": ("http://[example.com]/", "not a valid URL"),
    "no IPv6 address in brackets": ("http://[::g]/", "not a valid URL"),
    "too long": (f"http://a/{'b' * MAX_URL_LENGTH}", "longer than 2083"),
    "too long once encoded": (f"http://a/é{'b' * (MAX_URL_LENGTH - 14)}", "longer than 2083"),
}


@pytest.mark.parametrize(("given", "kept"), CANONICAL.values(), ids=CANONICAL.keys())
def test_a_url_is_kept_under_one_spelling(given: str, kept: str) -> None:
    assert canonical_url(given) == kept


@pytest.mark.parametrize(("given", "says"), INVALID.values(), ids=INVALID.keys())
def test_what_is_no_url_of_ours_is_refused_with_a_reason(given: str, says: str) -> None:
    with pytest.raises(InvalidUrl, match=f"(?i){says}"):
        canonical_url(given)


@pytest.mark.parametrize(("_given", "kept"), CANONICAL.values(), ids=CANONICAL.keys())
def test_the_spelling_that_is_kept_is_its_own(_given: str, kept: str) -> None:
    assert canonical_url(kept) == kept


def test_the_words_of_a_refusal_do_not_repeat_a_password() -> None:
    with pytest.raises(InvalidUrl) as refusal:
        canonical_url("http://user:secret@example.com/")
    assert "secret" not in str(refusal.value)


def test_an_address_with_something_behind_its_bracket_is_refused() -> None:
    with pytest.raises(InvalidUrl):
        canonical_url("http://[::1]example.com/")


def test_an_address_of_a_future_version_is_refused() -> None:
    with pytest.raises(InvalidUrl):
        canonical_url("http://[v1.example]/")


# Text that often gets as far as the parser, and text that rarely does.
_SIGNS = list("/:?#@[].%\\é。 \u00a0\x85\u200dßİ")
_WORDS = ["http", "https", "://", "example.com", "A", "::1", "80", "443", "xn--"]
_PIECES = st.lists(st.sampled_from(_SIGNS + _WORDS)).map("".join)
_TEXT = st.text() | _PIECES | _PIECES.map("http://{}".format)


@given(_TEXT)
@example("http://[::1%25é]/")
@example("http://\ud800/")
@example("http://xn--/")
def test_any_text_is_a_url_or_an_invalid_one(text: str) -> None:
    with suppress(InvalidUrl):
        assert canonical_url(text).startswith(("http://", "https://"))


@given(_TEXT)
@example("http://example.com/\u00a0#fragment")
def test_a_canonical_url_is_canonical(text: str) -> None:
    with suppress(InvalidUrl):
        url = canonical_url(text)
        assert canonical_url(url) == url


def test_a_fragment_may_be_longer_than_a_url_and_is_no_part_of_what_is_published() -> None:
    """Whoever keeps to the published pattern and length sends no URL that is too long."""
    url = "https://example.com/"
    with_fragment = f"{url}#{'a' * MAX_URL_LENGTH}"
    assert canonical_url(with_fragment) == url
    pattern = PAGE_URL["json_schema_extra"]["pattern"]
    assert re.search(pattern, url)
    assert not re.search(pattern, with_fragment)
