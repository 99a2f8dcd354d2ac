"""Dates as HTTP headers have them (RFC 9110, 5.6.7)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_http_date(text: str) -> datetime | None:
    """Return the moment in UTC, or None if the text cannot be read as a date."""
    try:
        moment = parsedate_to_datetime(text)
        # HTTP dates are in UTC. One with the zone "-0000" comes back naive.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter for a number or year that is out of range
        return None
