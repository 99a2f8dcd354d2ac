"""The forms in which a page is answered: its record as JSON, or its source alone as plain text."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

import pydantic_core

from app.api.answers import PIECE_BYTES
from app.api.problems import NO_PAGE_SOURCE, Refusal
from app.api.schemas import page_json
from app.models import PageRecord

_SOURCE_PLACE = uuid4().hex
"""Stands for the page source while the rest of an answer is made. No page can contain it: nobody
outside this process knows it."""


class Form(Protocol):
    """How a page is answered, whole or piece by piece."""

    @property
    def name(self) -> str:
        """Stands for everything that the answer depends on beside the record."""

    @property
    def fields(self) -> frozenset[str]:
        """The fields of the metadata that are answered."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, `Content-Type` among them."""

    def whole(self, record: PageRecord) -> bytes:
        """Return the body of the answer."""

    def pieces(self, record: PageRecord, source: bytes) -> Iterator[bytes]:
        """Yield the body of the answer about a record whose source was taken out."""


@dataclass(frozen=True, slots=True)
class RecordAsJson:
    """The record of a page, with some fields of its metadata."""

    fields: frozenset[str]

    @property
    def name(self) -> str:
        """Names the fields."""
        return ",".join(["json", *sorted(self.fields)])

    @property
    def headers(self) -> dict[str, str]:
        """Say that it is JSON."""
        return {"Content-Type": "application/json"}

    def whole(self, record: PageRecord) -> bytes:
        """Return the record as JSON."""
        return page_json(record)

    def pieces(self, record: PageRecord, source: bytes) -> Iterator[bytes]:
        """Yield the record as JSON, which is so never whole in memory."""
        rest = self.whole(_with_source(record, _SOURCE_PLACE))
        before, _, after = rest.partition(_SOURCE_PLACE.encode())
        yield before
        for text in _text_of(source):
            yield pydantic_core.to_json(text)[1:-1]  # without its quotation marks
        yield after


@dataclass(frozen=True, slots=True)
class SourceAsText:
    """The source of a page alone."""

    @property
    def name(self) -> str:
        """There is only one."""
        return "source"

    @property
    def fields(self) -> frozenset[str]:
        """The source."""
        return frozenset({"page_source"})

    @property
    def headers(self) -> dict[str, str]:
        """Have a browser save the source: shown as a page, its scripts would run as ours."""
        return {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Disposition": 'attachment; filename="page-source.txt"',
            "Content-Security-Policy": "sandbox",
            "X-Content-Type-Options": "nosniff",
        }

    def whole(self, record: PageRecord) -> bytes:
        """Return the source. Raises `Refusal` if there is none."""
        source = source_of(record)
        if source is None:
            raise Refusal(NO_PAGE_SOURCE, str(NO_PAGE_SOURCE.examples["Not text"]))
        return source.encode()

    def pieces(self, _record: PageRecord, source: bytes) -> Iterator[bytes]:
        """Yield the source."""
        for start in range(0, len(source), PIECE_BYTES):
            yield source[start : start + PIECE_BYTES]


def source_of(record: PageRecord) -> str | None:
    """Return the page source, if it was read."""
    if record.selected is not None:
        source: str | None = record.selected.get("page_source")
        return source
    return record.metadata.page_source if record.metadata else None


def without_source(record: PageRecord) -> PageRecord:
    """Return a record whose source is not kept in memory with it."""
    return _with_source(record, None)


def _with_source(record: PageRecord, source: str | None) -> PageRecord:
    changed: dict[str, Any] = {"page_source": source}
    if record.selected is not None:
        return replace(record, selected={**record.selected, **changed})
    return replace(record, metadata=record.metadata and replace(record.metadata, **changed))


def _text_of(source: bytes) -> Iterator[str]:
    """Decode UTF-8 piece by piece. A character that a cut divides comes with the later piece."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(source), PIECE_BYTES):
        yield decoder.decode(source[start : start + PIECE_BYTES])
