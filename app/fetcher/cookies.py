"""`Set-Cookie` headers as they were sent (RFC 6265, section 5.2).

A cookie that a browser would refuse is recorded like any other.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from app.models import Cookie, Header

_INT64_MAX = 2**63 - 1  # the largest integer that BSON can hold
_MAX_DATE_CHARACTERS = 100  # more than twice as long as any date, so that none is slow to read
_DELTA_SECONDS = re.compile(r"-?[0-9]{1,40}")

# RFC 6265, section 5.1.1: the tokens of a date may come in any order, and each is taken for the
# first part of a date that it fits.
_DATE_TOKENS = re.compile(r"[^\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_OF_LAST_CENTURY = range(70, 100)
_OF_THIS_CENTURY = range(70)
_DATE_PARTS = {
    "time": re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[^0-9].*)?"),
    "day": re.compile(r"([0-9]{1,2})(?:[^0-9].*)?"),
    "month": re.compile(rf"({'|'.join(_MONTHS)}).*", re.IGNORECASE),
    "year": re.compile(r"([0-9]{2,4})(?:[^0-9].*)?"),
}


def cookies_in(headers: Iterable[Header], host: str, path: str) -> Iterator[Cookie]:
    """Yield the cookies set by a response to a request for `path` on `host`, in order."""
    for header in headers:
        if header.name == "set-cookie":
            yield parse_cookie(header.value, host, path)


def parse_cookie(text: str, host: str, path: str) -> Cookie:
    """Return one cookie. Where an attribute is given twice, the last one counts.

    Without `Domain` the cookie belongs to `host`, without `Path` to the default path of RFC 6265,
    section 5.1.4. A pair without `=` is a value without a name (RFC 6265bis, section 5.6).
    """
    pair, *parts = text.split(";")
    name, equals, value = pair.partition("=")
    attributes = dict(_attribute(part) for part in parts)
    return Cookie(
        name=name.strip() if equals else "",
        value=(value if equals else name).strip(),
        domain=attributes.get("domain") or host,
        path=attributes.get("path") or default_path(path),
        expires=parse_date(attributes.get("expires", "")),
        max_age=_seconds(attributes.get("max-age", "")),
        secure="secure" in attributes,
        http_only="httponly" in attributes,
        same_site=attributes.get("samesite") or None,
    )


def _attribute(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip()


def default_path(path: str) -> str:
    """Return the path of a cookie that names none, set by an answer to a request for `path`."""
    return path[: path.rfind("/")] or "/"


def _seconds(text: str) -> int | None:
    """Return a `Max-Age`, cut to 64 bits, or None for what is no number."""
    if not _DELTA_SECONDS.fullmatch(text):
        return None
    return max(-_INT64_MAX, min(int(text), _INT64_MAX))


def parse_date(text: str) -> datetime | None:
    """Return the moment that a cookie date names, in UTC, or None if it names none."""
    if len(text) > _MAX_DATE_CHARACTERS:
        return None
    found: dict[str, re.Match[str]] = {}
    for token in _DATE_TOKENS.findall(text):
        _take_date_token(token, found)
    if len(found) < len(_DATE_PARTS):
        return None
    day, month = int(found["day"][1]), _MONTHS.index(found["month"][1].lower()) + 1
    hour, minute, second = map(int, found["time"].groups())
    try:
        return datetime(_year(int(found["year"][1])), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _take_date_token(token: str, found: dict[str, re.Match[str]]) -> None:
    for part, pattern in _DATE_PARTS.items():
        if part not in found and (match := pattern.fullmatch(token)):
            found[part] = match
            return


def _year(year: int) -> int:
    if year in _OF_LAST_CENTURY:
        return year + 1900
    return year + 2000 if year in _OF_THIS_CENTURY else year
