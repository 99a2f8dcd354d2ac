"""The colour that a page asks browsers to surround it with."""

from app.extractor.bounds import MAX_NAME
from app.extractor.fields import first_text
from app.extractor.page import Page
from app.extractor.sources import THEME_COLOR


def theme_color_of(page: Page) -> str | None:
    """Return the first colour that the page states, as written."""
    return first_text(page, THEME_COLOR, MAX_NAME)
