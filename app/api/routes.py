"""`/metadata`: ask for a page, read it back, delete it."""

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import PlainTextResponse
from starlette.datastructures import Headers

from app.api import examples
from app.api.access import KeyedRoute, needs
from app.api.answers import as_json
from app.api.dependencies import ReaderDep
from app.api.forms import RecordAsJson, SourceAsText
from app.api.openapi import (
    APPLIED,
    CONTENT_LOCATION,
    IF_NONE_MATCH,
    LOCATION,
    PREFER,
    RETRY_AFTER,
    SOURCE_HEADERS,
    VALIDATORS,
    answer,
    not_modified,
    parameters,
    plain_text,
    problems,
)
from app.api.problems import (
    BODY_TOO_LARGE,
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_BODY,
    INVALID_QUERY,
    INVALID_REQUEST_ID,
    INVALID_URL,
    LARGE_PAGES_BUSY,
    NO_PAGE_SOURCE,
    NOT_QUEUED,
    OF_KEYS,
    UNKNOWN_PAGE,
    UNKNOWN_REQUEST,
)
from app.api.reading import NO_FIELDS
from app.api.schemas import (
    PAGE_URL,
    CompletedPage,
    FailedPage,
    MetadataRequest,
    PageQuery,
    PendingPage,
    QueuedAnswer,
    RequestState,
)
from app.api.selection import FieldsQuery, selected
from app.errors import NotEnded, StoreUnavailable, UnknownPage
from app.keys import Scope
from app.models import METADATA_FIELDS, Awaited
from app.urls import canonical_url

router = APIRouter(tags=["metadata"], route_class=KeyedRoute)


@router.post(
    "/metadata",
    status_code=HTTPStatus.ACCEPTED,
    summary="Ask for a page",
    response_model=QueuedAnswer,
    responses=answer(
        HTTPStatus.ACCEPTED,
        "The request is queued, and the broker has confirmed it",
        examples.QUEUED_ANSWER,
        LOCATION | APPLIED,
    )
    | answer(
        HTTPStatus.OK,
        "The page: as the fetch for this request found it, or as it was checked within `max_age`",
        examples.FRESH | examples.ENDED,
        VALIDATORS | CONTENT_LOCATION | APPLIED,
        model=CompletedPage | FailedPage,
    )
    | problems(
        *(*OF_KEYS, INVALID_URL, INVALID_BODY, BODY_TOO_LARGE, LARGE_PAGES_BUSY, NOT_QUEUED),
        *(DATABASE_UNAVAILABLE, INTERNAL_ERROR),
    ),
    openapi_extra=parameters(PREFER),
)
@needs(Scope.WRITE)
async def request_metadata(
    body: MetadataRequest, reader: ReaderDep, fields: FieldsQuery = None
) -> Response:
    """Queue a page to be fetched. A page that has been fetched before is fetched again.

    With `max_age` it is not, if its result was checked within so many seconds: then the answer is
    the page. 202 means that the broker has confirmed the request: it will end in a record.

    With `Prefer: wait=10` the answer comes when this request has been answered, by a fetch that
    began after it was accepted, and is 200 with the page; or after 10 seconds, and is 202.

    To a key without the scope `read` a page is answered with none of its `metadata`.
    """
    url, patience = canonical_url(body.url), reader.patience
    form = RecordAsJson(selected(fields) if reader.may(Scope.READ) else NO_FIELDS)
    location = f"{reader.request.scope.get('root_path', '')}/metadata?url={quote(url, safe='')}"
    found = {"Content-Location": location + _selecting(form.fields)} | patience.applied
    record = await reader.inventory.find_fresh(url, body.max_age, form.fields)
    if record is not None:
        return await reader.answer_with(form, record, found)
    request = await reader.inventory.request(url, reader.request_id)
    if await patience.wait(Awaited(url, request.request_id)):
        # The request is queued, even if its result is out of reach, deleted, or asked for anew.
        with suppress(StoreUnavailable, UnknownPage, NotEnded):
            return await reader.answer(form, reader.looking_at_result(url), found)
    headers = {"Location": location} | patience.applied
    return as_json(QueuedAnswer.of(request), HTTPStatus.ACCEPTED, headers)


@router.head("/metadata", include_in_schema=False)
@router.get(
    "/metadata",
    summary="Read a page",
    response_model=CompletedPage | FailedPage,
    responses=answer(
        HTTPStatus.OK,
        "The page, or why it cannot be fetched",
        examples.ENDED,
        VALIDATORS | APPLIED,
    )
    | answer(
        HTTPStatus.ACCEPTED,
        "No result yet",
        examples.PENDING,
        RETRY_AFTER | APPLIED,
        model=PendingPage,
    )
    | not_modified()
    | problems(
        *OF_KEYS,
        INVALID_URL,
        INVALID_QUERY,
        UNKNOWN_PAGE,
        DATABASE_UNAVAILABLE,
        LARGE_PAGES_BUSY,
        NOT_QUEUED,
        INTERNAL_ERROR,
    ),
    openapi_extra=parameters(PREFER, IF_NONE_MATCH),
)
@needs(Scope.READ)
async def read_metadata(query: Annotated[PageQuery, Query()], reader: ReaderDep) -> Response:
    """Return what is known of a page. An unknown page is queued.

    A result that is older than `max_age` is answered too, with `stale`, and a refresh is queued:
    one, however many ask.

    The call never waits for a fetch, unless the caller would: with `Prefer: wait=10` the answer
    comes when the page has a result that is not stale, or after 10 seconds.

    A request that a page of another site makes a browser send queues nothing, as with
    `queue=false`: for an unknown page it is answered 404. So does a request with a key without the
    scope `write`.
    """
    page, form = canonical_url(query.url), RecordAsJson(selected(query.fields))
    is_cross_site = _is_cross_site(reader.request.headers)
    may_queue = query.queue and not is_cross_site and reader.may(Scope.WRITE)
    look = reader.looking_at(page, max_age=query.max_age, may_queue=may_queue)
    patience = reader.patience
    if patience.seconds and (awaited := (await look(NO_FIELDS)).to_come):
        await patience.wait(awaited)
    return await reader.answer(form, look, patience.applied)


@router.delete(
    "/metadata",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a page",
    responses=problems(*OF_KEYS, INVALID_URL, INVALID_QUERY, DATABASE_UNAVAILABLE, INTERNAL_ERROR),
)
@needs(Scope.DELETE)
async def delete_page(url: Annotated[str, Query(**PAGE_URL)], reader: ReaderDep) -> Response:
    """Forget a page: its result, and every request for it that was accepted so far.

    The page is unknown at once, and no message or fetch under way brings it back. Whoever asks for
    it later has it fetched anew. The answer is the same for a page that is not known.
    """
    await reader.inventory.delete(canonical_url(url))
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.head("/metadata/source", include_in_schema=False)
@router.get(
    "/metadata/source",
    summary="Read the source of a page alone",
    response_class=PlainTextResponse,
    responses=plain_text("The page source", examples.SOURCE, SOURCE_HEADERS)
    | not_modified()
    | problems(
        *(*OF_KEYS, INVALID_URL, INVALID_QUERY, UNKNOWN_PAGE, NO_PAGE_SOURCE),
        *(DATABASE_UNAVAILABLE, LARGE_PAGES_BUSY, INTERNAL_ERROR),
    ),
    openapi_extra=parameters(IF_NONE_MATCH),
)
@needs(Scope.READ)
async def read_source(url: Annotated[str, Query(**PAGE_URL)], reader: ReaderDep) -> Response:
    """Return the page source as plain text in UTF-8, for a browser to save. Queues nothing."""
    look = reader.looking_at_result(canonical_url(url))
    return await reader.answer(SourceAsText(), look, {})


@router.head("/metadata/requests/{request_id}", include_in_schema=False)
@router.get(
    "/metadata/requests/{request_id}",
    summary="Read what became of a request",
    response_model=RequestState,
    responses=answer(HTTPStatus.OK, "What became of the request", examples.REQUESTS)
    | problems(
        *(*OF_KEYS, INVALID_REQUEST_ID, UNKNOWN_REQUEST, DATABASE_UNAVAILABLE, INTERNAL_ERROR)
    ),
)
@needs(Scope.READ)
async def read_request(
    request_id: Annotated[UUID, Path(description="The id that the request was answered with.")],
    reader: ReaderDep,
) -> Response:
    """Return how far the fetch has come that answers a request, or how it ended.

    Requests are known from when POST answers, or if the database was away then, from when a worker
    takes them. The record of a page remembers the first thousand that wait, those that its latest
    fetch answers, and up to fifty before them, as long as their fetch is among the latest ten that
    have ended.
    """
    return as_json(RequestState.of(await reader.inventory.find_request(request_id)), HTTPStatus.OK)


def _selecting(fields: frozenset[str]) -> str:
    """Return the rest of a query for some fields of the metadata; empty for all of them."""
    return "" if fields == METADATA_FIELDS else f"&fields={','.join(sorted(fields))}"


def _is_cross_site(headers: Headers) -> bool:
    """Say whether a browser sends the request on behalf of another site.

    Any web page can have its visitors' browsers send a GET, by an image for example, and so have
    this service fetch what it likes. Browsers then say so (Fetch Metadata, `Sec-Fetch-Site`).
    Other clients do not send the header.
    """
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
