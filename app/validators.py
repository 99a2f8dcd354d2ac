"""Which validators of a stored page may be sent back to its server (RFC 9110, 8.8 and 13.1)."""

import re
from datetime import timedelta
from http import HTTPStatus

from app.http_dates import parse_http_date
from app.models import PageMetadata, Validators

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]{0,1000}"')
"""RFC 9110, 8.8.3. Anything else is not sent back: `*` would be taken as "any page at all", and a
control character could end the header."""

_DATE = re.compile(r"[\x20-\x7e]{1,64}")


def validators_of(page: PageMetadata) -> Validators | None:
    """Return what a refresh may send, or None if it has to fetch the page as if for the first time.

    A page that was cut is fetched anew: a server that confirms it confirms the whole page, so the
    cut would stay even after `FETCH_MAX_BODY_BYTES` was raised or the connection got better. Only
    a 200 has validators of the page itself, rather than of a message about it.
    """
    if page.page_source_truncated or page.status_code != HTTPStatus.OK:
        return None
    etag, last_modified = _etag(page), _last_modified(page)
    if etag is None and last_modified is None:
        return None
    return Validators(page.final_url, etag, last_modified)


def _etag(page: PageMetadata) -> str | None:
    value = _only_value(page, "etag")
    return value if value and _ENTITY_TAG.fullmatch(value) else None


def _last_modified(page: PageMetadata) -> str | None:
    """Return the date, unless the page may have been changed in the second in which it was sent.

    A second change within that second has the same date, so the server would not tell of it (RFC
    9110, 8.8.2.2). A server that does not say when it sent the page may have done so then.
    """
    value = _only_value(page, "last-modified")
    changed = parse_http_date(value) if value and _DATE.fullmatch(value) else None
    sent = parse_http_date(_only_value(page, "date") or "")
    # The difference of two dates is always in range, while a date less a second may not be.
    is_old_enough = changed and sent and sent - changed >= timedelta(seconds=1)
    return value if is_old_enough else None


def _only_value(page: PageMetadata, name: str) -> str | None:
    """Return the value of a header, None if there is none or if several contradict each other."""
    values = {header.value for header in page.headers if header.name == name}
    return values.pop() if len(values) == 1 else None
