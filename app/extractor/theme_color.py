"""The colour that a page asks browsers to surround it with."""

from app.extractor.bounds import MAX_NAME
from app.extractor.fields import first
from app.extractor.page import Page
from app.extractor.sources import THEME_COLOR
from app.extractor.text import clean


def theme_color_of(page: Page) -> str | None:
    """Return the first colour that the page states, as written."""
    color = first(page, THEME_COLOR, lambda text: clean(text) or None)
    return page.bounds.text(color, MAX_NAME) if color else None
