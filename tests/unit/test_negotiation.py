"""What the headers of a request say: content codings, known tags, and how long to wait."""

import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from app.api import negotiation
from app.api.negotiation import Codings, Wanted, tag_of
from app.api.preferences import wait_preference
from app.models import PageRecord, PageStatus, Refresh
from tests.fakes import NOW, URL, a_page


def headers(*fields: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in fields])


# --- Accept-Encoding ---

CODINGS = {
    "no header": (None, Codings(gzip=False, identity=True)),
    "empty": ("", Codings(gzip=False, identity=True)),
    "gzip": ("gzip", Codings(gzip=True, identity=True)),
    "what browsers send": ("gzip, deflate, br, zstd", Codings(gzip=True, identity=True)),
    "in capitals": ("GZIP", Codings(gzip=True, identity=True)),
    "its old name": ("x-gzip", Codings(gzip=True, identity=True)),
    "others only": ("br, deflate", Codings(gzip=False, identity=True)),
    "any": ("*", Codings(gzip=True, identity=True)),
    "gzip refused": ("gzip;q=0", Codings(gzip=False, identity=True)),
    "gzip refused in other words": ("gzip ; q=0.000", Codings(gzip=False, identity=True)),
    "any but gzip": ("gzip;q=0, *", Codings(gzip=False, identity=True)),
    "identity": ("identity", Codings(gzip=False, identity=True)),
    "identity rather": ("gzip;q=0.5, identity", Codings(gzip=False, identity=True)),
    "gzip rather": ("gzip, identity;q=0.5", Codings(gzip=True, identity=True)),
    "only gzip": ("gzip, identity;q=0", Codings(gzip=True, identity=False)),
    "nothing but gzip": ("gzip;q=0.1, *;q=0", Codings(gzip=True, identity=False)),
    "nothing": ("*;q=0", Codings(gzip=False, identity=False)),
    "a weight that is none": ("gzip;q=high", Codings(gzip=False, identity=True)),
}


@pytest.mark.parametrize(("value", "codings"), CODINGS.values(), ids=CODINGS.keys())
def test_the_accepted_codings_are_read(value: str | None, codings: Codings) -> None:
    given = headers() if value is None else headers(("Accept-Encoding", value))
    assert Codings.of(given) == codings


def test_codings_may_come_in_several_headers() -> None:
    given = headers(("Accept-Encoding", "br"), ("Accept-Encoding", "gzip"))
    assert Codings.of(given).gzip


@pytest.mark.parametrize(("size", "used"), [(1024, False), (1025, True)])
def test_answers_above_1_kb_are_compressed(size: int, used: bool) -> None:  # noqa: FBT001 (a case)
    assert Codings(gzip=True, identity=True).use_gzip(size) is used
    assert Codings(gzip=True, identity=False).use_gzip(size)
    assert not Codings(gzip=False, identity=True).use_gzip(size)


# --- If-None-Match ---


def wanted(method: str, *fields: tuple[str, str]) -> Wanted:
    scope = {"type": "http", "method": method, "headers": headers(*fields).raw}
    return Wanted.of(Request(scope))


GZIP = ("Accept-Encoding", "gzip")
KNOWN = {
    "the tag": ('"abc"', "abc"),
    "a weak one": ('W/"abc"', "abc"),
    "one of several": ('"x", "abc" ,W/"y"', "abc"),
    "any": ("*", "abc"),
    "a tag that only looks like any": ('"*"', None),
    "another": ('"abcd"', None),
    "without quotation marks": ("abc", None),
    "never closed": ('"abc', None),
    "empty": ("", None),
    "the compressed form, which this caller does not accept": ('"abc-gzip"', None),
}


@pytest.mark.parametrize(("value", "known"), KNOWN.values(), ids=KNOWN.keys())
def test_a_known_tag_is_recognised(value: str, known: str | None) -> None:
    assert wanted("GET", ("If-None-Match", value)).known("abc") == known


def test_a_caller_that_accepts_gzip_may_use_either_form_again() -> None:
    for form in ("abc", "abc-gzip"):
        assert wanted("GET", ("If-None-Match", f'"{form}"'), GZIP).known("abc") == form
    both = ("If-None-Match", '"abc"'), ("Accept-Encoding", "gzip, identity;q=0")
    assert wanted("GET", *both).known("abc") is None


def test_tags_may_come_in_several_headers() -> None:
    both = ("If-None-Match", '"x"'), ("If-None-Match", '"abc"')
    assert wanted("HEAD", *both).known("abc") == "abc"


def test_a_post_knows_no_tags() -> None:
    assert wanted("POST", ("If-None-Match", "*")).known_tags is None


# --- ETag ---

RECORD = PageRecord(
    url=URL,
    status=PageStatus.COMPLETED,
    metadata=a_page(),
    error=None,
    attempts=1,
    request_id=uuid4(),
    created_at=NOW,
    updated_at=NOW,
    revision=1,
)

CHANGES: dict[str, dict[str, Any]] = {
    "status": {"status": PageStatus.FAILED_PERMANENT},
    "attempts": {"attempts": 2},
    "request": {"request_id": uuid4()},
    "time of the last change": {"updated_at": NOW.replace(microsecond=1000)},
    "revision in the same millisecond": {"revision": 2},
    "time of the last check": {"checked_at": NOW},
    "staleness": {"stale": True},
    "refresh": {"refresh": Refresh(PageStatus.QUEUED, None, NOW, 0, None)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_tag_changes_with_anything_that_is_answered(change: dict[str, Any]) -> None:
    assert tag_of(replace(RECORD, **change), "json") != tag_of(RECORD, "json")


def test_the_tag_of_each_form_and_version_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {tag_of(RECORD, form) for form in ("json,charset", "json,headers", "source")}
    monkeypatch.setattr(negotiation, "__version__", "99")
    assert len(tags | {tag_of(RECORD, "source")}) == 4


def test_the_tag_can_be_told_without_the_metadata() -> None:
    without = replace(RECORD, metadata=None, selected={})
    assert tag_of(without, "json") == tag_of(RECORD, "json")


def test_what_is_not_answered_does_not_change_the_tag() -> None:
    assert tag_of(replace(RECORD, lease_expires_at=NOW), "json") == tag_of(RECORD, "json")


# --- Prefer ---

PREFERENCES = {
    "seconds": (["wait=10"], 10),
    "quoted": (['wait="10"'], 10),
    "in capitals, with blanks": (["Wait = 10"], 10),
    "among others": (["respond-async, wait=10; x=y, handling=lenient"], 10),
    "behind a comma in quotation marks": (['note="a, wait=5", wait=10'], 10),
    "in the second header": (["respond-async", "wait=10"], 10),
    "twice, of which the first counts": (["wait=10, wait=20"], 10),
    "unreadable first, which counts": (["wait=soon, wait=20"], None),
    "none at all": (["wait=0"], 0),
    "too long": (["wait=61"], 60),
    "far too long": (["wait=999999999"], 60),
    "of more digits than Python reads": (["wait=" + "9" * 5000], 60),
    "negative": (["wait=-1"], None),
    "a fraction": (["wait=1.5"], None),
    "digits of another script": (["wait=\u00b2"], None),
    "an underscore": (["wait=1_0"], None),
    "no value": (["wait"], None),
    "an empty value": (["wait="], None),
    "another preference": (["waiting=10"], None),
    "nothing": ([], None),
    "an open quotation mark": (['x="wait=10'], None),
}


@pytest.mark.parametrize(("values", "seconds"), PREFERENCES.values(), ids=PREFERENCES.keys())
def test_the_preference_to_wait_is_read(values: list[str], seconds: int | None) -> None:
    assert wait_preference(headers(*(("Prefer", value) for value in values))) == seconds


@pytest.mark.parametrize("text", ['"', "\\", ",", '"\\', "a;", "wait=", '"",'])
def test_headers_of_64_kb_are_read_at_once(text: str) -> None:
    value = text * (65_536 // len(text))
    names = ("Prefer", "If-None-Match", "Accept-Encoding")
    given = headers(*((name, value) for name in names))
    began = time.perf_counter()
    wait_preference(given)
    wanted("GET", *((name, value) for name in names))
    assert time.perf_counter() - began < 1
