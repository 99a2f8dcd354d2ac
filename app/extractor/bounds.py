"""How much is kept of what a page says, so that no page can make its record large."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")

MAX_NAME = 200
MAX_TITLE = 1000
MAX_TEXT = 5000
MAX_URL = 2083

MAX_LINKS = 100
"""Of icons, feeds, oEmbed descriptions and alternates: how many of each."""

MAX_PROPERTIES = 100
MAX_VALUES = 20

MAX_JSON_LD_CHARACTERS = 131_072
"""How much JSON-LD of one page is parsed, all its objects together."""

MAX_JSON_LD_OBJECTS = 50
MAX_JSON_LD_DEPTH = 20


class Bounds:
    """Cuts what is too much, and remembers that something was cut."""

    def __init__(self) -> None:
        self.exceeded = False

    def text(self, text: str, most: int) -> str:
        """Return the first `most` characters of `text`."""
        if len(text) <= most:
            return text
        self.exceeded = True
        return text[: most - 1].rstrip() + "…"

    def items(self, items: Iterable[Item], most: int) -> tuple[Item, ...]:
        """Return the first `most` of `items`."""
        kept = tuple(islice(items, most + 1))
        if len(kept) <= most:
            return kept
        self.exceeded = True
        return kept[:most]
