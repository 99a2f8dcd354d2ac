"""`GET /metadata/pages`: what is in the inventory."""

import base64
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api import examples
from app.api.access import KeyedRoute, needs
from app.api.answers import JSON
from app.api.dependencies import ListsDep, ReaderDep
from app.api.openapi import answer, problems
from app.api.problems import (
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_QUERY,
    LARGE_PAGES_BUSY,
    NOT_INDEXED,
    OF_KEYS,
    invalid_query,
)
from app.api.schemas import ListQuery, PageListAnswer, listed_page
from app.errors import InvalidUrl
from app.keys import Scope
from app.models import LISTED_STATUSES, PageFilter, PagePosition
from app.urls import canonical_url, host_of

MAX_LIST_BYTES = 2 * 1024 * 1024
"""What one list takes at most of the room in which large pages are read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NOT_IN_HOSTS = re.compile(r"[/\\?#@]")
_CURSOR = re.compile(r"([0-9]{1,15})-([0-9a-f]{24})")

router = APIRouter(tags=["metadata"], route_class=KeyedRoute)


@router.head("/metadata/pages", include_in_schema=False)
@router.get(
    "/metadata/pages",
    summary="List the inventory",
    response_model=PageListAnswer,
    responses=answer(HTTPStatus.OK, "Some pages, newest first", examples.LISTS)
    | problems(
        *(*OF_KEYS, INVALID_QUERY, DATABASE_UNAVAILABLE, NOT_INDEXED),
        *(LARGE_PAGES_BUSY, INTERNAL_ERROR),
    ),
)
@needs(Scope.READ)
async def list_pages(
    query: Annotated[ListQuery, Query()], lists: ListsDep, reader: ReaderDep
) -> Response:
    """List pages by when they were first asked for, the latest first. Queues nothing.

    Whoever follows `next` sees each page once that is there all the time, whatever else is asked
    for, fetched or deleted meanwhile. Nothing is counted: the number of all pages is not known.
    """
    wanted = PageFilter(
        statuses=frozenset(query.status) or LISTED_STATUSES,
        host=_host(query.host),
        updated_since=query.updated_since,
        text=query.q,
    )
    after = _position(query.cursor)
    async with reader.large_pages.reading.taken(MAX_LIST_BYTES):
        found = await lists.newest(wanted, query.limit, after)
        listed = PageListAnswer.model_construct(
            items=[listed_page(record) for record in found.records],
            next=_cursor(found.next) if found.next else None,
        )
        body = listed.model_dump_json(exclude_unset=True)
        return Response(body, headers={"Cache-Control": "no-cache"}, media_type=JSON)


def _host(text: str | None) -> str | None:
    """Return a host as records have it, such as `xn--bcher-kva.example` for `Bücher.example`."""
    if text is None:
        return None
    with suppress(InvalidUrl):
        if not _NOT_IN_HOSTS.search(text):
            return host_of(canonical_url(f"http://{text}/"))
    raise invalid_query("host", "not a host; give one such as www.example.com")


def _cursor(position: PagePosition) -> str:
    milliseconds = (position.created_at - _EPOCH) // _MILLISECOND
    return base64.urlsafe_b64encode(f"{milliseconds}-{position.key}".encode()).decode().rstrip("=")


def _position(cursor: str | None) -> PagePosition | None:
    if cursor is None:
        return None
    with suppress(ValueError, OverflowError):  # not ASCII, no base64, or a time that no date has
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if found := _CURSOR.fullmatch(text):
            return PagePosition(_EPOCH + int(found[1]) * _MILLISECOND, found[2])
    raise invalid_query("cursor", "not a cursor; send the `next` of an answer, or leave it out")
