"""Dates in the text of a page: its `<time>` elements."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from app.extractor.page import Element, Page

_OF_PUBLICATION = ("publish", "entry-date", "post-date", "posted", "pubdate")
_OF_CHANGES = ("updated", "modified")


def of_publication(page: Page) -> Iterator[str]:
    """Return the times that say they are of publication, then the others, in order.

    On a page that lists other pages, the others are theirs.
    """
    times = [time for time in page.all("time") if not _is_of_changes_alone(time)]
    named = [time for time in times if _says(time, _OF_PUBLICATION)]
    return map(_value, named if _is_a_list(page) else [*named, *times])


def _is_a_list(page: Page) -> bool:
    return page.metas.get("og:type", [""])[0].lower() == "website" or urlsplit(page.url).path == "/"


def of_changes(page: Page) -> Iterator[str]:
    """Return the times that say they are of a change."""
    return (_value(time) for time in page.all("time") if _says(time, _OF_CHANGES))


def _is_of_changes_alone(time: Element) -> bool:
    return _says(time, _OF_CHANGES) and not _says(time, _OF_PUBLICATION)


def _says(time: Element, words: tuple[str, ...]) -> bool:
    said = " ".join(time.attributes.get(name, "") for name in ("class", "itemprop", "id")).lower()
    return any(word in said for word in words) or (
        "pubdate" in time.attributes and "pubdate" in words
    )


def _value(time: Element) -> str:
    return time.attributes.get("datetime") or time.text
