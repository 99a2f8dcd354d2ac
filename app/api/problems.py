"""Errors as HTTP answers (RFC 9457, problem details): the one place that gives them a status.

Only a request whose head is too large is answered elsewhere, in `protocol.py`: no route sees it.

To add a kind of problem, add a `ProblemKind` below and, if a domain error leads to it, a line to
`_KIND_OF_ERROR`. A route that names the kind among its answers (`problems()` in `openapi.py`) has
it described in the OpenAPI document, with the examples given here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Self

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute, iter_route_contexts
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.api.schemas import Problem
from app.errors import (
    InvalidUrl,
    InventoryError,
    NotEnded,
    NotIndexed,
    PublishError,
    PublishFault,
    StoreUnavailable,
    UnknownPage,
    UnknownRequest,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

_ASKED_TO_RETRY = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)

FieldError = dict[str, str]
Detail = str | Sequence[FieldError]
"""What is wrong: a sentence, or what is wrong with which field of a request."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """What all problems of one kind have in common."""

    status: HTTPStatus

    slug: str
    """The end of the problem's `type`, by which programs recognise the kind. It never changes."""

    title: str

    examples: Mapping[str, Detail] = field(default_factory=dict)
    """Details that callers may see, for the OpenAPI document."""

    @property
    def fixed_detail(self) -> Detail:
        """The one detail of a kind that has the same in every answer."""
        (detail,) = self.examples.values()
        return detail

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every answer of this kind."""
        if self.status in _ASKED_TO_RETRY:
            return {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return {}

    def problem(self, detail: Detail) -> Problem:
        """Return the body of an answer."""
        errors = {} if isinstance(detail, str) else {"errors": list(detail)}
        text = "; ".join(f"{it['field']}: {it['message']}" for it in errors.get("errors", ()))
        return Problem(
            type=f"urn:page-metadata:problem:{self.slug}",
            title=self.title,
            status=self.status,
            detail=detail if isinstance(detail, str) else text,
            **errors,
        )

    def answer(self, detail: Detail) -> Response:
        """Return the whole answer."""
        return Response(
            self.problem(detail).model_dump_json(exclude_unset=True),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers=self.headers,
        )


class Refusal(HTTPException):
    """Raised where no domain error fits, to answer a request with a problem."""

    def __init__(
        self, kind: ProblemKind, detail: Detail, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(kind.status, headers=headers)
        self.detail: Any = detail
        self.kind = kind

    @classmethod
    def of(cls, kind: ProblemKind) -> Self:
        """Return a refusal of a kind that has the same detail in every answer."""
        return cls(kind, str(kind.fixed_detail))


# --- Every kind of problem ------------------------------------------------------------------------

INVALID_URL = ProblemKind(
    HTTPStatus.BAD_REQUEST,
    "invalid-url",
    "The URL can't be taken",
    {"No scheme": "only absolute http:// and https:// URLs are taken"},
)
INVALID_BODY = ProblemKind(
    HTTPStatus.BAD_REQUEST,
    "invalid-request",
    "The request is not valid",
    {"No URL": [{"field": "body.url", "message": "Field required"}]},
)
INVALID_QUERY = replace(
    INVALID_BODY, examples={"No URL": [{"field": "query.url", "message": "Field required"}]}
)
"""The same kind as `INVALID_BODY`, with the example of a call that has no body."""

INVALID_REQUEST_ID = replace(
    INVALID_BODY,
    examples={
        "No UUID": [
            {
                "field": "path.request_id",
                "message": "Input should be a valid UUID, invalid character: found `x` at 0; send "
                "the request_id that POST /metadata has answered",
            }
        ]
    },
)

KEY_IN_URL = ProblemKind(
    HTTPStatus.BAD_REQUEST,
    "key-in-url",
    "A key must not be in the URL",
    {
        "Key in the query": "there is an API key in the URL, which logs and proxies keep: send it "
        "in the header, Authorization: Bearer pm_…, and have this one rotated"
    },
)
BAD_AUTHORIZATION = ProblemKind(
    HTTPStatus.BAD_REQUEST,
    "bad-authorization",
    "The Authorization header can't be read",
    {"Two headers": "there are several Authorization headers; send one"},
)
NO_VALID_KEY = ProblemKind(
    HTTPStatus.UNAUTHORIZED,
    "no-valid-key",
    "A valid key is needed",
    {
        "No key": "send a key: Authorization: Bearer pm_…",
        "Wrong key": "the key is not known, was revoked, or is not written as it was given out",
    },
)
SCOPE_MISSING = ProblemKind(
    HTTPStatus.FORBIDDEN,
    "scope-missing",
    "The key does not permit this",
    {"Only reads": "this call needs a key with the scope write"},
)
TOO_MANY_REQUESTS = ProblemKind(
    HTTPStatus.TOO_MANY_REQUESTS,
    "too-many-requests",
    "Too many requests",
    {"Over the limit": "this key may send 600 requests a minute to one process"},
)
OF_KEYS = (KEY_IN_URL, BAD_AUTHORIZATION, NO_VALID_KEY, SCOPE_MISSING, TOO_MANY_REQUESTS)
"""The problems of every call that needs a key; `DATABASE_UNAVAILABLE` is one more."""

BODY_TOO_LARGE = ProblemKind(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "request-entity-too-large",
    "The body is too large",
    {"Over 16 KiB": "the body is larger than 16384 bytes"},
)
BATCH_TOO_LARGE = replace(
    BODY_TOO_LARGE, examples={"Over 4 MiB": "the body is larger than 4194304 bytes"}
)
"""The same kind as `BODY_TOO_LARGE`, with the example of a batch."""

UNKNOWN_PAGE = ProblemKind(
    HTTPStatus.NOT_FOUND,
    "unknown-page",
    "The page is not known",
    {
        "Nothing may be queued": "there is no record of https://example.com/; ask for it by "
        "POST /metadata"
    },
)
UNKNOWN_REQUEST = ProblemKind(
    HTTPStatus.NOT_FOUND,
    "unknown-request",
    "The request is not known",
    {
        "Never accepted, or forgotten": "no record mentions the request "
        "6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11; ask for its page by GET /metadata?url=…"
    },
)
NO_PAGE_SOURCE = ProblemKind(
    HTTPStatus.NOT_FOUND,
    "no-page-source",
    "The page has no source",
    {
        "No result yet": "the page has no result yet; GET /metadata tells its status",
        "Not text": "the body of the page is not text, there was no response, or the service keeps "
        "no page sources (STORE_PAGE_SOURCE=false)",
    },
)
NOT_QUEUED = ProblemKind(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "not-queued",
    "The request could not be queued",
    {  # by the reason of the `PublishError`
        PublishFault.NOT_READY: "the message broker is not connected at the moment",
        PublishFault.QUEUE_REJECTED: "the queue is full",
        PublishFault.CONNECTION_LOST: "the connection to the message broker was lost",
        PublishFault.CONFIRM_TIMEOUT: "the message broker did not confirm the message in time",
        PublishFault.UNROUTABLE: "the request queue is missing from the message broker",
    },
)
DATABASE_UNAVAILABLE = ProblemKind(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "database-unavailable",
    "The database is not available",
    {"No answer": "the database did not answer, or refused the operation"},
)
LARGE_PAGES_BUSY = ProblemKind(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "large-pages-busy",
    "Too many large pages are being read",
    {"No room": "too many large pages are being read at the moment"},
)
BATCHES_BUSY = ProblemKind(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "batches-busy",
    "Too many batches are under way",
    {"No room": "too many batches are under way at the moment; send one after another"},
)
NOT_INDEXED = ProblemKind(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "not-indexed",
    "The inventory cannot be listed yet",
    {
        "After an update": "the inventory cannot be listed before `pagemeta migrate` has made the "
        "indexes listed_by_status, listed_by_host"
    },
)
INTERNAL_ERROR = ProblemKind(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal-error",
    "Something went wrong",
    {"A bug": "The error has been logged; please try again later."},
)

_KIND_OF_ERROR: dict[type[InventoryError], ProblemKind] = {
    InvalidUrl: INVALID_URL,
    UnknownPage: UNKNOWN_PAGE,
    UnknownRequest: UNKNOWN_REQUEST,
    NotEnded: NO_PAGE_SOURCE,
    PublishError: NOT_QUEUED,
    StoreUnavailable: DATABASE_UNAVAILABLE,
    NotIndexed: NOT_INDEXED,
}


def invalid_query(name: str, message: str) -> RequestValidationError:
    """Return the error for a parameter that the application itself finds to be wrong."""
    return RequestValidationError([{"type": "value_error", "loc": ("query", name), "msg": message}])


def _kind_of_status(status: HTTPStatus) -> ProblemKind:
    """Return the kind of an error that the framework answers by its status alone, such as 404."""
    return ProblemKind(status, status.phrase.lower().replace(" ", "-"), status.phrase)


# --- From exceptions to answers -------------------------------------------------------------------


def add_problem_handlers(app: FastAPI) -> None:
    """Have every expected error of the application answered as problem details."""
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(InventoryError, _on_inventory_error)


async def _on_inventory_error(request: Request, exc: Exception) -> Response:
    kind = _kind_of(exc)
    return kind.answer(_detail(exc)) if kind else await answer_unforeseen(request, exc)


def problem_of(exc: Exception) -> Problem:
    """Return the problem that an error is answered with. An unforeseen one is logged."""
    if isinstance(exc, Refusal):
        return exc.kind.problem(exc.detail)
    if kind := _kind_of(exc):
        return kind.problem(_detail(exc))
    logger.opt(exception=exc).error("unhandled_error")
    return INTERNAL_ERROR.problem(INTERNAL_ERROR.fixed_detail)


def _kind_of(exc: Exception) -> ProblemKind | None:
    classes = type(exc).__mro__
    return next((_KIND_OF_ERROR[cls] for cls in classes if cls in _KIND_OF_ERROR), None)


def _detail(exc: Exception) -> Detail:
    if isinstance(exc, PublishError):
        return NOT_QUEUED.examples[exc.reason]
    if isinstance(exc, StoreUnavailable):  # its text is the driver's, and names the servers
        return DATABASE_UNAVAILABLE.fixed_detail
    return str(exc)


async def _on_invalid_request(_request: Request, exc: Exception) -> Response:
    if not isinstance(exc, RequestValidationError):
        raise exc
    return INVALID_BODY.answer([field_error(it) for it in exc.errors()])


_EXPECTED_BODY = (
    'send {"url": "https://example.com/"} (to /metadata/batch {"urls": [...]}) with '
    "Content-Type: application/json"
)

_ADVICE = {
    "bool_parsing": "send true or false",
    "int_parsing": "send a whole number",
    "int_type": "send a whole number",
    "datetime_from_date_parsing": "write it like 2026-01-31T12:00:00Z",
    "datetime_parsing": "write it like 2026-01-31T12:00:00Z",
    "timezone_aware": "write it like 2026-01-31T12:00:00Z",
    "string_pattern_mismatch": "send the `next` of an answer, or leave it out",
    "uuid_parsing": "send the request_id that POST /metadata has answered",
}
"""What to do about a value, by pydantic's type of error, where its message does not say it."""

_ENUM_MEMBER = re.compile(r"<\w+\.\w+: ('\w+')>")
"""How pydantic shows a member of an enum that a `Literal` names; callers know its value alone."""


def field_error(error: Mapping[str, Any]) -> FieldError:
    """Return what pydantic says of a field, with what to do about it."""
    location, message = error["loc"], _ENUM_MEMBER.sub(r"\1", error["msg"])
    is_about_a_field = any(isinstance(part, str) for part in location[1:])
    advice = _ADVICE.get(error["type"])
    if location[0] == "body" and not is_about_a_field:
        advice = _EXPECTED_BODY
    text = f"{message}; {advice}" if advice else message
    return {"field": ".".join(str(part) for part in location), "message": text}


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        raise exc
    status = HTTPStatus(exc.status_code)
    if status is HTTPStatus.BAD_REQUEST and not isinstance(exc, Refusal):
        # FastAPI raises this for a body that is not even text, or nested deeper than Python reads.
        message = f"{exc.detail}; {_EXPECTED_BODY}"
        return INVALID_BODY.answer([{"field": "body", "message": message}])
    kind = exc.kind if isinstance(exc, Refusal) else _kind_of_status(status)
    answer = kind.answer(exc.detail)
    answer.headers.update(exc.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers.update(_allow(request))
    return answer


def _allow(request: Request) -> dict[str, str]:
    """Name all methods of a path. Starlette names those of one route only."""
    routes = (it.original_route for it in iter_route_contexts(request.app.routes))
    methods = {
        method
        for route in routes
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return {"Allow": ", ".join(sorted(methods))} if methods else {}


async def answer_unforeseen(request: Request, exc: Exception) -> Response:
    """Log an error that nothing else has caught, and answer 500."""
    logger.opt(exception=exc).error("unhandled_error", method=request.method, path=request.url.path)
    return INTERNAL_ERROR.answer(INTERNAL_ERROR.fixed_detail)
