"""`GET /metadata/pages`: what is in the inventory."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api import examples
from app.api.access import KeyedRoute, needs
from app.api.answers import HeldAnswer, as_json
from app.api.dependencies import ListsDep, ReaderDep
from app.api.openapi import answer, problems
from app.api.problems import (
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_QUERY,
    LARGE_PAGES_BUSY,
    NOT_INDEXED,
    OF_KEYS,
)
from app.api.schemas import ListQuery, PageListAnswer, listed_page
from app.keys import Scope
from app.models import LISTED_STATUSES, PageFilter, PageList, PagePosition
from app.urls import canonical_or_none, host_of

MAX_LIST_BYTES = 2 * 1024 * 1024
"""What one list takes at most of the rooms in which large pages are read and sent."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

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
        updated_since=_in_utc(query.updated_since),
        text=query.q,
    )
    rooms = reader.large_pages
    async with AsyncExitStack() as holding:
        await holding.enter_async_context(rooms.sending.taken(MAX_LIST_BYTES))
        async with rooms.reading.taken(MAX_LIST_BYTES):
            found = await lists.newest(wanted, query.limit, _position(query.cursor))
        return HeldAnswer(_answer(found), holding.pop_all())


def _answer(found: PageList) -> Response:
    listed = PageListAnswer.model_construct(
        items=[listed_page(record) for record in found.records],
        next=_cursor(found.next) if found.next else None,
    )
    headers = {"Cache-Control": "no-cache"}
    return as_json(listed, HTTPStatus.OK, headers, leaves_out_unset=True)


def _host(text: str) -> str | None:
    """Return a host as records have it, such as `xn--bcher-kva.example` for `Bücher.example`."""
    if not text:
        return None
    url = canonical_or_none(text if "://" in text else f"http://{text}/")
    return host_of(url) if url else text


def _in_utc(time: datetime | None) -> datetime | None:
    """Return a time in UTC; the first or the last one there is for one that has none in UTC."""
    try:
        return time and time.astimezone(UTC)
    except OverflowError:
        return _EARLIEST if time and time.year == 1 else _LATEST


def _cursor(position: PagePosition) -> str:
    return f"{(position.created_at - _EPOCH) // _MILLISECOND}-{position.key}"


def _position(cursor: str | None) -> PagePosition | None:
    if not cursor:
        return None
    milliseconds, _, key = cursor.partition("-")
    return PagePosition(_EPOCH + int(milliseconds) * _MILLISECOND, key)
