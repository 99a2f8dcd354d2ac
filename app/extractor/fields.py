"""How a field is read from its sources: the first that holds something acceptable counts."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from app.extractor.page import Page
from app.extractor.sources import Source
from app.extractor.text import clean

Value = TypeVar("Value")

_MAX_CANDIDATES = 50
"""How many values of one source are looked at."""


def first(
    page: Page, sources: Iterable[Source], read: Callable[[str], Value | None]
) -> Value | None:
    """Return the first value that `read` makes something of."""
    for source in sources:
        for candidate, _ in zip(source(page), range(_MAX_CANDIDATES), strict=False):
            value = read(candidate)
            if value is not None:
                return value
    return None


def first_text(page: Page, sources: Iterable[Source], most: int) -> str | None:
    """Return the first text that is not blank, as people read it, cut to so many characters."""
    text = first(page, sources, lambda candidate: clean(candidate) or None)
    return page.bounds.text(text, most) if text else None
