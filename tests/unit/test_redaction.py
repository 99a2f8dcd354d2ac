"""What is left out of a page before it is stored."""

import pytest

from app.fetcher.cookies import cookies_in
from app.models import Cookie, Header, Redirect
from app.redaction import Redaction
from tests.fakes import a_page

HEADERS = (
    Header("content-type", "text/html"),
    Header("x-token", "one"),
    Header("X-Token", "two"),
    Header("set-cookie", "Session=secret; Path=/; HttpOnly"),
    Header("set-cookie", "theme=dark"),
    Header("set-cookie", "a value without a name"),
)
PAGE = a_page(
    headers=HEADERS,
    cookies=(Cookie("first", "set by a redirect"), *cookies_in(HEADERS, "e.test", "/")),
    redirects=(Redirect("http://e.test/", 301, "/?token=1"),),
)


def values(*names: str) -> tuple[list[str], list[str]]:
    """Return the values of headers and cookies that are kept where these names are redacted."""
    page = Redaction(names=frozenset(names)).applied_to(PAGE)
    assert [it.name for it in page.headers] == [it.name for it in PAGE.headers]
    assert [it.name for it in page.cookies] == [it.name for it in PAGE.cookies]
    return [it.value for it in page.headers], [it.value for it in page.cookies]


def test_by_default_a_page_is_kept_as_it_is() -> None:
    assert Redaction().applied_to(PAGE) is PAGE


def test_a_source_that_is_not_kept_changes_nothing_else() -> None:
    kept = Redaction(keeps_source=False).applied_to(PAGE)
    assert kept == a_page(
        headers=PAGE.headers, cookies=PAGE.cookies, redirects=PAGE.redirects, page_source=None
    )
    assert kept.body_sha256 == PAGE.body_sha256


def test_every_header_of_a_redacted_name_is_kept_without_its_value() -> None:
    headers, cookies = values("x-token")
    assert headers[:3] == ["text/html", "", ""]
    assert headers[3:] == [it.value for it in HEADERS[3:]]
    assert cookies == [it.value for it in PAGE.cookies]


def test_a_redacted_cookie_has_no_value_in_the_header_that_sets_it_either() -> None:
    headers, cookies = values("session")
    assert headers[3:] == ["", "theme=dark", "a value without a name"]
    assert cookies == ["set by a redirect", "", "dark", "a value without a name"]


def test_a_cookie_of_a_redirect_is_redacted_too() -> None:
    assert values("first")[1][0] == ""


def test_redacting_set_cookie_drops_the_values_of_all_cookies() -> None:
    headers, cookies = values("set-cookie")
    assert headers == ["text/html", "one", "two", "", "", ""]
    assert cookies == [""] * 4


def test_redacting_location_drops_it_from_redirects_whose_urls_stay() -> None:
    page = Redaction(names=frozenset({"location"})).applied_to(PAGE)
    assert page.redirects == (Redirect("http://e.test/", 301, ""),)


@pytest.mark.parametrize("text", ["Session = secret", " session=secret", "SESSION=secret;Secure"])
def test_a_cookie_is_found_in_its_header_as_it_is_parsed(text: str) -> None:
    headers = (Header("set-cookie", text),)
    page = a_page(headers=headers, cookies=tuple(cookies_in(headers, "e.test", "/")))
    assert "secret" not in repr(Redaction(names=frozenset({"session"})).applied_to(page))
