"""Answers one request for a page: from a look at the record to the bytes that are sent."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from uuid import UUID

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.api.answers import LargePages, large_pages_busy, pending
from app.api.compression import as_they_are, gzipped, gzipped_pieces
from app.api.forms import Form, source_of, without_source
from app.api.negotiation import GZIP_SUFFIX, Wanted, tag_of, validators
from app.api.preferences import Patience
from app.errors import NotEnded
from app.models import PageRecord
from app.services import Inventory
from app.waiting import Waiters

NO_FIELDS = frozenset[str]()
"""With none of the metadata a record is some hundred bytes, and tells its status and its tag."""

MAX_WHOLE_BYTES = 65_536
"""A larger source is sent piece by piece."""

Look = Callable[[frozenset[str]], Awaitable[PageRecord]]
"""Reads the record with some fields of its metadata, less a large source."""


@dataclass(frozen=True, slots=True)
class PageReader:
    """Answers a request with a page, in the form that its headers ask for."""

    request: Request
    inventory: Inventory
    large_pages: LargePages
    waiters: Waiters

    @property
    def patience(self) -> Patience:
        """How long the caller waits for a page."""
        return Patience.of(self.request, self.waiters)

    @property
    def request_id(self) -> UUID:
        """The id that `RequestObserver` gave the request."""
        request_id: UUID = self.request.scope["request_id"]
        return request_id

    def looking_at(self, url: str, *, may_queue: bool) -> Look:
        """Return how to look at a page; with `may_queue` an unknown one is queued."""

        async def look(fields: frozenset[str]) -> PageRecord:
            return await self.inventory.read(
                url, self.request_id, may_queue=may_queue, fields=fields
            )

        return look

    def looking_at_result(self, url: str) -> Look:
        """Return how to look at a page that has ended; any other raises `NotEnded`."""
        look = self.looking_at(url, may_queue=False)

        async def look_at_result(fields: frozenset[str]) -> PageRecord:
            record = await look(fields)
            if not record.has_ended:
                raise NotEnded("the page has no result yet; GET /metadata tells its status")
            return record

        return look_at_result

    async def answer(self, form: Form, look: Look, headers: Mapping[str, str]) -> Response:
        """Answer 200 with the page, 304 if the caller has it, or 202 if it has not ended.

        `headers` are those of each of these answers.
        """
        reading = _Reading(self, form, Wanted.of(self.request), dict(headers))
        if reading.wanted.known_tags and (known := reading.known(await look(NO_FIELDS))):
            return known
        record = await look(form.fields)
        if record.omitted_source_bytes and record.has_ended:
            return reading.large(record)
        return await reading.whole(record)


@dataclass(frozen=True, slots=True)
class _Reading:
    reader: PageReader
    form: Form
    wanted: Wanted
    more_headers: dict[str, str]

    def known(self, record: PageRecord) -> Response | None:
        """Answer 304 if the caller has the page as it is now."""
        tag = self.wanted.known(tag_of(record, self.form.name)) if record.has_ended else None
        if tag is None:
            return None
        return Response(
            status_code=HTTPStatus.NOT_MODIFIED,
            headers=self.more_headers | validators(record, tag),
        )

    async def whole(self, record: PageRecord) -> Response:
        """Answer with a page whose source is not large."""
        if not record.has_ended:
            return pending(record, self.more_headers)
        body = self.form.whole(record)
        use_gzip = self.wanted.codings.use_gzip(len(body))
        headers = self._headers(record, use_gzip=use_gzip)
        return Response(await gzipped(body) if use_gzip else body, headers=headers)

    def large(self, record: PageRecord) -> Response:
        """Answer with a page whose large source is yet to be read."""
        if self.reader.request.method == HTTPMethod.HEAD:
            return self._head_of_stream(record)
        return self.reader.large_pages.answer(
            record.omitted_source_bytes, lambda: self._read_large(record.url)
        )

    async def _read_large(self, url: str) -> Response:
        record = await self.reader.inventory.read_with_source(url, self.form.fields)
        if record is None:  # it was deleted between the look at its size and the reading
            raise large_pages_busy()
        source = (source_of(record) or "").encode()  # a `str` may take four times as much
        if len(source) <= MAX_WHOLE_BYTES or not record.has_ended:
            return await self.whole(record)
        return self._streamed(without_source(record), source)

    def _streamed(self, record: PageRecord, source: bytes) -> Response:
        use_gzip = self.wanted.codings.use_gzip(len(source))
        pieces = self.form.pieces(record, source)
        return StreamingResponse(
            gzipped_pieces(pieces) if use_gzip else as_they_are(pieces),
            headers=self._headers(record, use_gzip=use_gzip),
        )

    def _head_of_stream(self, record: PageRecord) -> Response:
        use_gzip = self.wanted.codings.use_gzip(record.omitted_source_bytes)
        answer = Response(headers=self._headers(record, use_gzip=use_gzip))
        del answer.headers["content-length"]  # nobody knows it before the page is read
        return answer

    def _headers(self, record: PageRecord, *, use_gzip: bool) -> dict[str, str]:
        tag = tag_of(record, self.form.name) + (GZIP_SUFFIX if use_gzip else "")
        coding = {"Content-Encoding": "gzip"} if use_gzip else {}
        return self.more_headers | self.form.headers | coding | validators(record, tag)
