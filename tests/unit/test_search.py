"""Under which terms a page is found, and what somebody types to find it."""

import pytest

from app.search import MAX_WORDS, PREFIX_LENGTHS, search_terms, search_words


def finds(typed: str, host: str, title: str | None = None) -> bool:
    """Say whether each word is among the terms, as it is or as the beginning of one."""
    terms = search_terms(host, title)
    return all(any(_fits(word, term) for term in terms) for word in _words(typed))


def _words(typed: str) -> list[str]:
    words = search_words(typed)
    assert words
    return words


def _fits(word: str, term: str) -> bool:
    return word == term if len(word) in PREFIX_LENGTHS else term.startswith(word)


@pytest.mark.parametrize(
    "typed",
    [
        *("w", "www", "www.my-", "www.my-site.exa", "WWW.My-Site"),
        *("e", "exam", "example.", "example.co", "example.com"),
        *("site", "my-site", "my-site.example"),
    ],
)
def test_a_host_is_found_from_the_beginning_of_each_label_on(typed: str) -> None:
    assert finds(typed, "www.my-site.example.com")


@pytest.mark.parametrize(
    "typed", ["com", "xample", "ww.example", "example.org", "www.example.com.org"]
)
def test_a_host_is_not_found_by_the_middles_of_its_parts_or_by_its_last_label(typed: str) -> None:
    assert not finds(typed, "www.example.com")


@pytest.mark.parametrize(
    "typed",
    [
        *("i", "Inter", "internat", "internationalis", "INTERNATIONALISATION"),
        *("e-mail", "mail", "(e-mail)", "straße", "STRASSE", "ﬁsh", "日本"),
        *("mail int", "fi e-m stra"),
    ],
)
def test_a_title_is_found_by_the_beginnings_of_its_words(typed: str) -> None:
    title = "“Internationalisation” of e-mail: fish, Straße, 日本語"
    assert finds(typed, "a.example", title)


@pytest.mark.parametrize("typed", ["nternational", "internationalx", "mail fox"])
def test_a_title_is_not_found_by_the_middles_of_its_words_or_by_longer_ones(typed: str) -> None:
    assert not finds(typed, "a.example", "Internationalisation of e-mail")


def test_terms_are_few_and_short_whatever_a_page_calls_itself() -> None:
    title = " ".join(f"{number}{'x' * 1000}" for number in range(1000))
    terms = search_terms("a.example", title)
    assert len(terms) == len(set(terms)) < 10 + MAX_WORDS * 3
    assert max(map(len, terms)) == 64
    assert finds("11" + "x" * 100, "a.example", title)
    assert not finds("12", "a.example", title)


def test_an_address_is_found_from_its_beginning() -> None:
    assert finds("192.0", "192.0.2.1")
    assert finds("2001:db8", "[2001:db8::1]")


@pytest.mark.parametrize("typed", ["", "  ", "... !"])
def test_marks_alone_are_no_words(typed: str) -> None:
    assert search_words(typed) == []
