"""When a page was published, and when it last changed."""

from datetime import datetime

from app.extractor.dates import parse_date
from app.extractor.fields import first
from app.extractor.page import Page
from app.extractor.sources import MODIFIED_AT, PUBLISHED_AT


def published_at(page: Page) -> datetime | None:
    """Return when the page was published, in UTC."""
    return first(page, PUBLISHED_AT, parse_date)


def modified_at(page: Page) -> datetime | None:
    """Return when the page last changed, in UTC."""
    return first(page, MODIFIED_AT, parse_date)
