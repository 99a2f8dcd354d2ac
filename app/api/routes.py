"""`/metadata`: ask for a page, read it back."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import Headers

from app.api import examples
from app.api.answers import about_page, as_json
from app.api.dependencies import InventoryDep, LargePagesDep
from app.api.openapi import LOCATION, RETRY_AFTER, answer, problems
from app.api.problems import (
    BODY_TOO_LARGE,
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_BODY,
    INVALID_QUERY,
    INVALID_URL,
    LARGE_PAGES_BUSY,
    NOT_QUEUED,
    UNKNOWN_PAGE,
)
from app.api.schemas import (
    PAGE_URL,
    CompletedPage,
    FailedPage,
    MetadataRequest,
    PendingPage,
    QueuedAnswer,
)
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
    | problems(INVALID_URL, INVALID_BODY, BODY_TOO_LARGE, NOT_QUEUED, INTERNAL_ERROR),
)
async def request_metadata(
    body: MetadataRequest, inventory: InventoryDep, http: Request
) -> Response:
    """Queue a page to be fetched. A page that has been fetched before is fetched again.

    202 means that the broker has confirmed the request: it will end in a record.
    """
    request = await inventory.request(canonical_url(body.url), http.scope["request_id"])
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
    url: Annotated[str, Query(**PAGE_URL)],
    inventory: InventoryDep,
    large_pages: LargePagesDep,
    http: Request,
) -> Response:
    """Return what is known of a page. An unknown page is queued; the call never waits for it.

    A request that a page of another site makes a browser send queues nothing: for an unknown page
    it is answered 404.
    """
    record = await inventory.read(
        canonical_url(url), http.scope["request_id"], may_queue=not _is_cross_site(http.headers)
    )
    if record.has_ended and record.omitted_source_bytes:
        return large_pages.answer(
            record.omitted_source_bytes, lambda: inventory.read_with_source(record.url)
        )
    return about_page(record)


def _is_cross_site(headers: Headers) -> bool:
    """Say whether a browser sends the request on behalf of another site.

    Any web page can have its visitors' browsers send a GET, by an image for example, and so have
    this service fetch what it likes. Browsers then say so (Fetch Metadata, `Sec-Fetch-Site`).
    Other clients do not send the header.
    """
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
