"""The name of the site that a page belongs to."""
# ruff: noqa: RUF001 (dashes that look like others are what separates names)

import re
from collections.abc import Iterator

from app.extractor.bounds import MAX_NAME
from app.extractor.fields import first
from app.extractor.page import Page
from app.extractor.sources import PUBLISHER, SITE_NAME, text_of
from app.extractor.text import clean, letters_of
from app.urls import host_of

_SEPARATOR = re.compile(
    r"\s*+[|»·•]\s*+|(?<=[^\x00-\x7f])_|_(?=[^\x00-\x7f])|\s*+::\s*+|\s[-–—]\s|(?<=\w):\s"
)
_FEED = re.compile(r" »| (?:[-–] )?(?:RSS|Atom)\b", re.IGNORECASE)
_MIN_LETTERS = 3
_MAX_CHARACTERS = 4 * MAX_NAME


def site_name_of(page: Page) -> str | None:
    """Return the name of the site without its tagline.

    Where the page does not name its site, a part of its title counts that is like the name of its
    host: at `example.com`, "Example" of "A headline | Example". Then comes the publisher, and last
    the title of a feed: "Example » Feed".
    """
    name = (
        first(page, SITE_NAME, _without_tagline)
        or first(page, [text_of("title")], lambda title: _named_like_host(title, page.url))
        or first(page, PUBLISHER, _without_tagline)
        or first(page, [_feed_titles], _named_in_feed)
    )
    return page.bounds.text(name, MAX_NAME) if name else None


def _without_tagline(text: str) -> str | None:
    return next(iter(_parts(text)), None)


def _feed_titles(page: Page) -> Iterator[str]:
    feeds = (link for link in page.links("alternate") if "type" in link.attributes)
    return (link.attributes.get("title", "") for link in feeds)


def _named_in_feed(title: str) -> str | None:
    """Return the name in front of what WordPress and Blogger append to it."""
    name, *behind = _FEED.split(clean(title), maxsplit=1)
    return _without_tagline(name) if behind and letters_of(name) else None


def _parts(text: str) -> list[str]:
    parts = _SEPARATOR.split(clean(text)[:_MAX_CHARACTERS])
    return [part.strip() for part in parts if part.strip()]


def _named_like_host(title: str, url: str) -> str | None:
    parts = _parts(title)
    labels = [letters_of(label) for label in host_of(url).split(".")[:-1] if label != "www"]
    # The name mostly stands last, sometimes first.
    candidates = (part for part in parts[:0:-1] + parts[:1] if _is_like(part, labels))
    return next(candidates, None) if len(parts) > 1 else None


def _is_like(part: str, labels: list[str]) -> bool:
    letters = letters_of(part.replace("&", "and"))
    return any(
        min(len(label), len(letters)) >= _MIN_LETTERS and (letters in label or label in letters)
        for label in labels
    )
