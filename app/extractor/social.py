"""What a page says to social networks: its Open Graph and Twitter Card properties."""

from collections.abc import Iterable

from app.extractor.bounds import MAX_NAME, MAX_PROPERTIES, MAX_TEXT, MAX_VALUES, Bounds
from app.extractor.page import Page
from app.extractor.text import clean


def open_graph_of(page: Page) -> dict[str, tuple[str, ...]]:
    """Return the properties `og:…` in order, each with all its values."""
    return {name: _kept(values, page.bounds) for name, values in _properties(page, "og:")}


def twitter_of(page: Page) -> dict[str, str]:
    """Return the properties `twitter:…` in order, each with its first value."""
    return {
        name: page.bounds.text(clean(values[0]), MAX_TEXT)
        for name, values in _properties(page, "twitter:")
    }


def _kept(values: Iterable[str], bounds: Bounds) -> tuple[str, ...]:
    return tuple(bounds.text(clean(value), MAX_TEXT) for value in bounds.items(values, MAX_VALUES))


def _properties(page: Page, prefix: str) -> tuple[tuple[str, list[str]], ...]:
    named = ((_key(name), values) for name, values in page.metas.items() if name.startswith(prefix))
    return page.bounds.items(named, MAX_PROPERTIES)


def _key(name: str) -> str:
    """Return a name that the database takes as one: no NUL, and no longer than is kept."""
    return name.replace("\0", "")[:MAX_NAME]
