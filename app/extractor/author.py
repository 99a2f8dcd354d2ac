"""Who wrote a page."""

import json
from itertools import chain, islice

from app.extractor.bounds import MAX_TITLE
from app.extractor.json_ld import texts
from app.extractor.names import author_name
from app.extractor.page import Page
from app.extractor.sources import AUTHOR, Source
from app.extractor.text import letters_of
from app.urls import host_of

_MAX_AUTHORS = 20


def author_of(page: Page, site_name: str | None) -> str | None:
    """Return the names of the authors, from the first place that names any.

    The name of the site counts only if no place has another one: many sites name themselves as the
    author in some places.
    """
    named = (names for source in AUTHOR if (names := _names(page, source)))
    if not (first := next(named, None)):
        return None
    site = _names_of_site(page, site_name)
    others = (it for it in chain([first], named) if not site.issuperset(map(letters_of, it)))
    names = next(others, first)
    return page.bounds.text(", ".join(names), MAX_TITLE)


def _names_of_site(page: Page, site_name: str | None) -> set[str]:
    host = host_of(page.url).removeprefix("www.")
    return {letters_of(it) for it in (host, host.rpartition(".")[0], site_name or host)}


def _names(page: Page, source: Source) -> list[str]:
    """Return the names in one place, each once.

    One that begins with another, as in "Jane Doe" and "Jane Doe in Rome", is the same.
    """
    found = chain.from_iterable(map(_texts, source(page)))
    names: list[str] = []
    for name in filter(None, map(author_name, islice(found, _MAX_AUTHORS))):
        if not f"{name} ".lower().startswith(tuple(f"{it} ".lower() for it in names)):
            names.append(name)
    return names


def _texts(value: str) -> list[str]:
    """Return the names in a value that is JSON, or else the value."""
    if not value.lstrip().startswith(("{", "[")):
        return [value]
    try:
        return list(texts(json.loads(value, parse_float=_no_name, parse_constant=_no_name), "name"))
    except (ValueError, RecursionError):
        return []


def _no_name(_: str) -> None:
    """Stand in for numbers that would be written as `inf` or `nan`."""
