"""The title and the description of a page."""

from app.extractor.bounds import MAX_TEXT, MAX_TITLE
from app.extractor.fields import first
from app.extractor.page import Page
from app.extractor.sources import DESCRIPTION, TITLE
from app.extractor.text import clean


def title_of(page: Page) -> str | None:
    """Return the title as the page gives it, with the name of its site if it has that."""
    text = first(page, TITLE, _text)
    return page.bounds.text(text, MAX_TITLE) if text else None


def description_of(page: Page) -> str | None:
    """Return what the page says it is about."""
    text = first(page, DESCRIPTION, _text)
    return page.bounds.text(text, MAX_TEXT) if text else None


def _text(candidate: str) -> str | None:
    return clean(candidate) or None
