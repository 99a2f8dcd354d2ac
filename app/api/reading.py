"""Answers one request for a page: from a look at the record to the bytes that are sent."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPMethod, HTTPStatus
from uuid import UUID

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.api.answers import LargePages, pending
from app.api.compression import as_they_are, gzipped, gzipped_pieces
from app.api.forms import Form, source_of, without_source
from app.api.gate import Gate
from app.api.negotiation import GZIP_SUFFIX, Wanted, tag_of, validators
from app.api.preferences import Patience
from app.api.problems import LARGE_PAGES_BUSY, Refusal
from app.errors import NotEnded
from app.keys import ApiKey, Scope
from app.models import MAX_INLINE_SOURCE_BYTES, PageRecord
from app.services import Inventory
from app.waiting import Waiters

NO_FIELDS = frozenset[str]()
"""With none of the metadata a record is some hundred bytes, and tells its status and its tag."""


@dataclass(slots=True)
class Look:
    """How one request looks at its page: once, or again for more of it and after a wait.

    Only the first look has a result refreshed that is older than `max_age`. What it finds to be
    stale stays so for this request until it is checked anew. So `max_age=0` causes one refresh, and
    the result of that is not stale.
    """

    inventory: Inventory
    url: str
    request_id: UUID

    may_queue: bool = False
    """Whether an unknown page, or a refresh of an old result, is queued."""

    max_age: int | None = None
    """In seconds; None after the first look."""

    needs_result: bool = False
    """Whether a page that has not ended raises `NotEnded`."""

    _found_stale: bool = False
    _found_checked_at: datetime | None = None

    async def __call__(self, fields: frozenset[str]) -> PageRecord:
        """Return the record with some fields of its metadata, less a large source."""
        return self._seen(
            await self.inventory.read(
                self.url,
                self.request_id,
                max_age=self.max_age,
                may_queue=self.may_queue,
                fields=fields,
            )
        )

    async def with_source(self, fields: frozenset[str]) -> PageRecord | None:
        """Return the record with some fields, and with its source however large it is."""
        record = await self.inventory.read_with_source(self.url, fields)
        return record and self._seen(record)

    def _seen(self, record: PageRecord) -> PageRecord:
        if self.needs_result and not record.has_ended:
            raise NotEnded("the page has no result yet; GET /metadata tells its status")
        if self.max_age is not None:
            self._found_stale, self._found_checked_at = record.stale, record.checked_at
            self.max_age = None
        is_same = record.has_ended and record.checked_at == self._found_checked_at
        return replace(record, stale=True) if self._found_stale and is_same else record


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

    def may(self, scope: Scope) -> bool:
        """Say whether the caller's key permits something. Where no key is needed, all is."""
        key: ApiKey | None = self.request.scope.get("api_key")
        return key is None or scope in key.scopes

    def spend(self) -> None:
        """Count one more request against the caller's limit. Raises a `Refusal` if it is over."""
        gate: Gate | None = self.request.app.state.gate
        if gate is not None:
            gate.spend(self.request.scope)

    def looking_at(self, url: str, *, max_age: int | None, may_queue: bool) -> Look:
        """Return how to look at a page."""
        return Look(self.inventory, url, self.request_id, may_queue, max_age)

    def looking_at_result(self, url: str) -> Look:
        """Return how to look at a page that has ended; any other raises `NotEnded`."""
        return Look(self.inventory, url, self.request_id, needs_result=True)

    async def answer(self, form: Form, look: Look, headers: Mapping[str, str]) -> Response:
        """Answer 200 with the page, 304 if the caller has it, or 202 if it has not ended.

        `headers` are those of each of these answers.
        """
        reading = self._reading(form, look, headers)
        if reading.wanted.known_tags and (known := reading.known(await look(NO_FIELDS))):
            return known
        return await reading.found(await look(form.fields))

    async def answer_with(
        self, form: Form, record: PageRecord, headers: Mapping[str, str]
    ) -> Response:
        """Answer 200 with a page that has ended, whose record was just read."""
        reading = self._reading(form, self.looking_at_result(record.url), headers)
        return await reading.found(record)

    def _reading(self, form: Form, look: Look, headers: Mapping[str, str]) -> "_Reading":
        return _Reading(
            self.request.method,
            self.large_pages,
            form,
            look,
            Wanted.of(self.request),
            dict(headers),
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    method: str
    large_pages: LargePages
    form: Form
    look: Look
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

    async def found(self, record: PageRecord) -> Response:
        """Answer with a page, whose source is yet to be read if it is large."""
        if record.omitted_source_bytes and record.has_ended:
            return self._large(record)
        return await self._whole(record)

    async def _whole(self, record: PageRecord) -> Response:
        if not record.has_ended:
            return pending(record, self.more_headers)
        body = self.form.whole(record)
        use_gzip = self.wanted.codings.use_gzip(len(body))
        headers = self._headers(record, use_gzip=use_gzip)
        return Response(await gzipped(body) if use_gzip else body, headers=headers)

    def _large(self, record: PageRecord) -> Response:
        if self.method == HTTPMethod.HEAD:
            return self._head_of_stream(record)
        return self.large_pages.answer(record.omitted_source_bytes, self._read_large)

    async def _read_large(self) -> Response:
        record = await self.look.with_source(self.form.fields)
        if record is None:  # it was deleted between the look at its size and the reading
            raise Refusal.of(LARGE_PAGES_BUSY)
        source = (source_of(record) or "").encode()  # a `str` may take four times as much
        if len(source) <= MAX_INLINE_SOURCE_BYTES or not record.has_ended:
            return await self._whole(record)
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
