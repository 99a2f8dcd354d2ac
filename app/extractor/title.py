"""The title and the description of a page."""

from app.extractor.bounds import MAX_TEXT, MAX_TITLE
from app.extractor.fields import first_text
from app.extractor.page import Page
from app.extractor.sources import DESCRIPTION, TITLE


def title_of(page: Page) -> str | None:
    """Return the title as the page gives it, with the name of its site if it has that."""
    return first_text(page, TITLE, MAX_TITLE)


def description_of(page: Page) -> str | None:
    """Return what the page says it is about."""
    return first_text(page, DESCRIPTION, MAX_TEXT)
