"""What a page asks of robots."""

import re
from collections.abc import Iterator

from app.extractor.bounds import MAX_NAME, MAX_PROPERTIES
from app.extractor.page import Page
from app.extractor.text import clean

# In a header, a directive may be for one robot alone: `examplebot: noindex`.
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
_FOR_ONE = re.compile(r"([a-z0-9._-]{1,60})\s*+:")


def robots_of(page: Page) -> tuple[str, ...]:
    """Return the directives for all robots, those of the page first, each once."""
    texts = [
        *page.metas.get("robots", ()),
        *filter(_is_for_all, page.headers.get("x-robots-tag", ())),
    ]
    directives = dict.fromkeys(each for text in texts for each in _directives(text))
    return page.bounds.items(iter(directives), MAX_PROPERTIES)


def _is_for_all(header: str) -> bool:
    name = _FOR_ONE.match(header.strip().lower())
    return not name or name[1] in _WITH_VALUE


def _directives(text: str) -> Iterator[str]:
    # A date has a comma too: "unavailable_after: 25 Jun 2030 15:00:00 PST" is one directive.
    directives = (clean(part).lower()[:MAX_NAME] for part in text.split(","))
    return (directive for directive in directives if directive)
