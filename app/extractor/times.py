"""Dates in the text of a page and in its URL: for pages that tell them to people alone."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from app.extractor.page import Element, Page

_OF_PUBLICATION = ("publish", "entry-date", "post-date", "posted", "pubdate")
_OF_CHANGES = ("updated", "modified")
_OF_SOMETHING = ("date", "meta")

# These are about another page, or about what somebody said on this one.
_OF_OTHERS = ("comment", "teaser", "card")

_IN_PATH = re.compile(r"(?<!\d)(?:19|20)\d\d(?:/[01]?\d/[0-3]?\d(?=/|$)|(-?)[01]\d\1[0-3]\d(?!\d))")
_ABOUT_A_CHANGE = re.compile(
    r"updat|modif|edit|chang|revis|aktualisier|mis à jour|actualiz|aggiornat|gewijzigd|更新|обновл",
    re.IGNORECASE,
)
_TWO_NUMBERS = re.compile(r"\d\D++\d")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


def of_publication(page: Page) -> Iterator[str]:
    """Return the times that say they are of publication, then the others, in order.

    On a page that lists other pages, the others are theirs.
    """
    times = [time for time in page.all("time") if not _is_of_changes_alone(time)]
    named = [time for time in times if _says(time, _OF_PUBLICATION)]
    return map(_value, named if _is_a_list(page) else [*named, *times])


def in_path(page: Page) -> Iterator[str]:
    """Return the days in the path of the URL: `/2024/05/31/`, `/2024-05-31-` or `/20240531`."""
    return (found[0] for found in _IN_PATH.finditer(urlsplit(page.url).path))


def by_class(page: Page) -> Iterator[str]:
    """Return what the elements hold whose class says that there is a date in them.

    A home page has dates of other pages alone.
    """
    if _is_a_home_page(page):
        return
    for element in page.elements:
        if element.name in {"span", "a"} and _is_dated(element):
            yield from (element.attributes.get(name, "") for name in ("content", "title"))
            yield element.text


def near_headings(page: Page) -> Iterator[str]:
    """Return short texts around the headings that may be dates. A home page has none of its own."""
    if _is_a_home_page(page):
        return
    of_changes = {time.text for time in page.all("time") if _is_of_changes_alone(time)}
    for text in (it.text for it in page.all("data")):
        if text not in of_changes and not _ABOUT_A_CHANGE.search(text) and _is_of_a_day(text):
            yield text


def of_changes(page: Page) -> Iterator[str]:
    """Return the times that say they are of a change."""
    return (_value(time) for time in page.all("time") if _says(time, _OF_CHANGES))


def _is_of_a_day(text: str) -> bool:
    """Return whether a text has a year of our time and another number: "Model 1234-5" has none."""
    return bool(_YEAR.search(text) and _TWO_NUMBERS.search(text))


def _is_dated(element: Element) -> bool:
    is_of_others = _says(element, _OF_OTHERS) or _is_of_changes_alone(element)
    return _says(element, _OF_SOMETHING) and not is_of_others


def _is_a_list(page: Page) -> bool:
    return page.metas.get("og:type", [""])[0].lower() == "website" or _is_a_home_page(page)


def _is_a_home_page(page: Page) -> bool:
    return urlsplit(page.url).path == "/"


def _is_of_changes_alone(time: Element) -> bool:
    return _says(time, _OF_CHANGES) and not _says(time, _OF_PUBLICATION)


def _says(element: Element, words: tuple[str, ...]) -> bool:
    attributes = element.attributes
    said = " ".join(attributes.get(name, "") for name in ("class", "itemprop", "id")).lower()
    return any(word in said for word in words) or ("pubdate" in attributes and "pubdate" in words)


def _value(time: Element) -> str:
    return time.attributes.get("datetime") or time.text
