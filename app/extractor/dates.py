"""Dates in the forms that pages write them in."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

_MAX_CHARACTERS = 100
_EARLIEST_YEAR = 1000

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar janvier enero ene gennaio gen janeiro januari января jänner يناير",
            "february feb februar février febrero febbraio fevereiro fev februari февраля فبراير",
            "march mar märz mars marzo março maart марта maerz mrz مارس",
            "april apr avril abril abr aprile апреля أبريل",
            "may mai mayo maggio maio mei мая maj mag مايو",
            "june jun juni juin junio giugno junho июня giu يونيو",
            "july jul juli juillet julio luglio julho июля lug يوليو",
            "august aug août agosto ago augustus августа augusti أغسطس",
            "september sep sept septembre septiembre settembre setembro сентября set سبتمبر",
            "october oct oktober okt octobre octubre ottobre outubro out октября ott أكتوبر",
            "november nov novembre noviembre novembro ноября نوفمبر",
            "december dec dezember dez décembre diciembre dic dicembre dezembro декабря ديسمبر",
        ),
        start=1,
    )
    for name in names.split()
}
_ZONES = {"z": 0, "utc": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7,
          "mdt": -6, "pst": -8, "pdt": -7, "bst": 1, "cet": 1, "cest": 2, "msk": 3, "ist": 5.5,
          "jst": 9, "kst": 9, "aest": 10}  # fmt: skip

_TIME = re.compile(
    r"(?<!\d)(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d{1,9})?)?[ ]?([ap]\.?m)?\b\.?", re.IGNORECASE
)
_OFFSET = re.compile(
    r"^[ ]?(?:(?:utc|gmt)?[ ]?([+-])(\d{2}):?(\d{2})?\b|([a-z]{1,4})\b)", re.IGNORECASE
)
_COMPACT = re.compile(r"^(\d{4})(\d{2})(\d{2})(?:T?(\d{2})(\d{2})(\d{2})?)?(?=[^\d]|$)")
_EPOCH = re.compile(r"^(\d{10}|\d{13})(?:\.\d+)?$")
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})[-/.年][ ]?(\d{1,2})[-/.月][ ]?(\d{1,2})(?!\d)")
_KOREAN = re.compile(r"(\d{4})년[ ]?(\d{1,2})월[ ]?(\d{1,2})일")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})([-/.])[ ]?(\d{1,2})[-/.][ ]?(\d{4})(?!\d)")
_DAY_FIRST = re.compile(
    r"(?<!\d)(\d{1,2})(?:st|nd|rd|th|er|\.)?(?:[ ]de)?[ -]([^\W\d_]{3,12})\.?,?"
    r"(?:[ ]de)?[ -](\d{4})(?!\d)"
)
_MONTH_FIRST = re.compile(
    r"([^\W\d_]{3,12})\.?[ ](?:(\d{1,2})(?:st|nd|rd|th)?,?[ ]"
    r"(?:\d\d:\d\d:\d\d[ ](?:[A-Z]{1,5}[ ])?)?)?(\d{4})(?!\d)"
)
_YEAR_AND_MONTH = re.compile(r"(?<!\d)(\d{4})[-/.年][ ]?(\d{1,2})(?!\d)")
_YEAR = re.compile(r"^(\d{4})$")

_HALF_A_DAY = 12
_MONTHS_IN_A_YEAR = 12


def parse_date(text: str) -> datetime | None:
    """Return the moment that a date names, in UTC, or None if it is none.

    A date without a time is taken as the beginning of its day, one without a zone as UTC.
    """
    text = " ".join(text[:_MAX_CHARACTERS].split())
    with suppress(ValueError, OverflowError, IndexError):
        moment = _read(text)
        if moment and moment.year >= _EARLIEST_YEAR:
            return moment.astimezone(UTC)
    return None


def _read(text: str) -> datetime | None:
    if epoch := _EPOCH.match(text):
        return datetime.fromtimestamp(int(epoch[1][:10]), UTC)
    if compact := _COMPACT.match(text):
        year, month, day, hour, minute, second = (int(part or 0) for part in compact.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    start = _day(text)
    return _with_time(start, text) if start else None


def _day(text: str) -> datetime | None:
    """Return the beginning of the day that `text` names, whatever its order of parts."""
    if found := _YEAR_FIRST.search(text) or _KOREAN.search(text):
        return datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
    if found := _YEAR_LAST.search(text):
        return _year_last(*found.groups())
    if (found := _DAY_FIRST.search(text)) and (month := _month(found[2])):
        return datetime(int(found[3]), month, int(found[1]), tzinfo=UTC)
    if (found := _MONTH_FIRST.search(text)) and (month := _month(found[1])):
        return datetime(int(found[3]), month, int(found[2] or 1), tzinfo=UTC)
    # Only now: in "31.05.2024. 10:30" the hour stands where a month could.
    if found := _YEAR_AND_MONTH.search(text):
        return datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)
    found = _YEAR.match(text)
    return datetime(int(found[1]), 1, 1, tzinfo=UTC) if found else None


def _year_last(first: str, separator: str, second: str, year: str) -> datetime:
    """Read `31.12.2024` with the day first, and `12/31/2024` with the month, unless it is none."""
    day, month = int(first), int(second)
    if (separator == "/" and day <= _MONTHS_IN_A_YEAR) or month > _MONTHS_IN_A_YEAR:
        day, month = month, day
    return datetime(int(year), month, day, tzinfo=UTC)


def _month(name: str) -> int | None:
    return _MONTHS.get(name.lower())


def _with_time(day: datetime, text: str) -> datetime:
    found = _TIME.search(text)
    if not found:
        return day
    hour = int(found[1])
    if half := found[4]:
        hour = hour % _HALF_A_DAY + (_HALF_A_DAY if half.lower().startswith("p") else 0)
    moment = day.replace(hour=hour, minute=int(found[2]), second=int(found[3] or 0))
    return moment - _offset(text[found.end() :])


def _offset(text: str) -> timedelta:
    """Return how far a zone is ahead of UTC: `+02:00`, `-0500`, `Z`, `GMT` or `PST`."""
    found = _OFFSET.match(text)
    if not found:
        return timedelta(0)
    if found[1]:
        offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
        return -offset if found[1] == "-" else offset
    return timedelta(hours=_ZONES.get(found[4].lower(), 0))
