"""`/metadata`: ask for a page, read it back."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import Headers

from app.api import examples
from app.api.answers import LargePages, about_page, as_json
from app.api.dependencies import InventoryDep, LargePagesDep
from app.api.openapi import LOCATION, RETRY_AFTER, answer, problems
from app.api.problems import (
    BODY_TOO_LARGE,
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_BODY,
    INVALID_QUERY,
    INVALID_REQUEST_ID,
    INVALID_URL,
    LARGE_PAGES_BUSY,
    NOT_QUEUED,
    UNKNOWN_PAGE,
    UNKNOWN_REQUEST,
)
from app.api.schemas import (
    CompletedPage,
    FailedPage,
    MetadataRequest,
    PageQuery,
    PendingPage,
    QueuedAnswer,
    RequestState,
)
from app.models import PageRecord
from app.services import Inventory
from app.urls import canonical_url

router = APIRouter(tags=["metadata"])


@router.post(
    "/metadata",
    status_code=HTTPStatus.ACCEPTED,
    summary="Ask for a page",
    response_model=QueuedAnswer,
    responses=answer(
        HTTPStatus.ACCEPTED,
        "The request is queued, and the broker has confirmed it",
        examples.QUEUED_ANSWER,
        LOCATION,
    )
    | answer(
        HTTPStatus.OK,
        "The page, whose result is young enough",
        examples.FRESH,
        model=CompletedPage | FailedPage,
    )
    | problems(
        INVALID_URL, INVALID_BODY, BODY_TOO_LARGE, LARGE_PAGES_BUSY, NOT_QUEUED, INTERNAL_ERROR
    ),
)
async def request_metadata(
    body: MetadataRequest, inventory: InventoryDep, large_pages: LargePagesDep, http: Request
) -> Response:
    """Queue a page to be fetched. A page that has been fetched before is fetched again.

    With `max_age` it is not, if its result was checked within so many seconds: then the answer is
    the page. 202 means that the broker has confirmed the request: it will end in a record.
    """
    url = canonical_url(body.url)
    record = await inventory.find_fresh(url, body.max_age)
    if record is not None:
        return _page(record, inventory, large_pages)
    request = await inventory.request(url, http.scope["request_id"])
    location = f"/metadata?url={quote(request.url, safe='')}"
    return as_json(QueuedAnswer.of(request), HTTPStatus.ACCEPTED, {"Location": location})


@router.get(
    "/metadata",
    summary="Read a page",
    response_model=CompletedPage | FailedPage,
    responses=answer(HTTPStatus.OK, "The page, or why it cannot be fetched", examples.ENDED)
    | answer(HTTPStatus.ACCEPTED, "No result yet", examples.PENDING, RETRY_AFTER, model=PendingPage)
    | problems(
        INVALID_URL,
        INVALID_QUERY,
        UNKNOWN_PAGE,
        DATABASE_UNAVAILABLE,
        LARGE_PAGES_BUSY,
        NOT_QUEUED,
        INTERNAL_ERROR,
    ),
)
async def read_metadata(
    query: Annotated[PageQuery, Query()],
    inventory: InventoryDep,
    large_pages: LargePagesDep,
    http: Request,
) -> Response:
    """Return what is known of a page. An unknown page is queued; the call never waits for it.

    A result that is older than `max_age` is answered too, with `stale`, and a refresh is queued:
    one, however many ask. A request that a page of another site makes a browser send queues
    nothing, as with `queue=false`: for an unknown page it is answered 404.
    """
    record = await inventory.read(
        canonical_url(query.url),
        http.scope["request_id"],
        max_age=query.max_age,
        may_queue=query.queue and not _is_cross_site(http.headers),
    )
    return _page(record, inventory, large_pages, query.max_age)


@router.get(
    "/metadata/requests/{request_id}",
    summary="Read what became of a request",
    response_model=RequestState,
    responses=answer(HTTPStatus.OK, "What became of the request", examples.REQUESTS)
    | problems(INVALID_REQUEST_ID, UNKNOWN_REQUEST, DATABASE_UNAVAILABLE, INTERNAL_ERROR),
)
async def read_request(request_id: UUID, inventory: InventoryDep) -> Response:
    """Return how far the fetch has come that answers a request, or how it ended.

    Requests are known from when they are recorded, a moment after they were accepted, until ten
    later fetches of their page have ended.
    """
    return as_json(RequestState.of(await inventory.find_request(request_id)), HTTPStatus.OK)


def _page(
    record: PageRecord, inventory: Inventory, large_pages: LargePages, max_age: int | None = None
) -> Response:
    """Answer with a page, whose source is read only now if it is large."""
    if record.has_ended and record.omitted_source_bytes:
        return large_pages.answer(
            record.omitted_source_bytes, lambda: inventory.read_with_source(record.url, max_age)
        )
    return about_page(record)


def _is_cross_site(headers: Headers) -> bool:
    """Say whether a browser sends the request on behalf of another site.

    Any web page can have its visitors' browsers send a GET, by an image for example, and so have
    this service fetch what it likes. Browsers then say so (Fetch Metadata, `Sec-Fetch-Site`).
    Other clients do not send the header.
    """
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
