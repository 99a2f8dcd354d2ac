"""The address that a page calls its own."""

from app.extractor.fields import first
from app.extractor.page import Page
from app.extractor.sources import CANONICAL_URL


def canonical_url_of(page: Page) -> str | None:
    """Return the first address that can be one. Of several canonical links the first counts."""
    return first(page, CANONICAL_URL, lambda text: page.absolute(text) if text.strip() else None)
