"""Errors as HTTP: the one place that gives them a status (RFC 9457, problem details)."""

from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from loguru import logger
from starlette.exceptions import HTTPException

from app.api.schemas import Problem
from app.errors import InvalidUrl, InventoryError, PublishError, StoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

_NOT_QUEUED = {
    "publisher_not_ready": "the message broker is not connected at the moment",
    "queue_rejected": "the queue is full",
    "connection_lost": "the connection to the message broker was lost",
    "confirm_timeout": "the message broker did not confirm the message in time",
    "unroutable": "the request queue is missing from the message broker",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one kind have in common."""

    status: HTTPStatus
    slug: str
    title: str


_KINDS: dict[type[InventoryError], Kind] = {
    InvalidUrl: Kind(HTTPStatus.BAD_REQUEST, "invalid-url", "The URL can't be taken"),
    PublishError: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "not-queued", "The request could not be queued"
    ),
    StoreUnavailable: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "database-unavailable", "The database is not available"
    ),
}
_EXPECTED_BODY = 'send {"url": "https://example.com/"} with Content-Type: application/json'
_INVALID_REQUEST = Kind(HTTPStatus.BAD_REQUEST, "invalid-request", "The request is not valid")
_UNFORESEEN = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "Something went wrong")


def add_problem_handlers(app: FastAPI) -> None:
    """Have every expected error of the application answered as problem details."""
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(InventoryError, _on_inventory_error)


async def _on_inventory_error(request: Request, exc: Exception) -> Response:
    kind = next((_KINDS[cls] for cls in type(exc).__mro__ if cls in _KINDS), None)
    if kind is None:
        return await answer_unforeseen(request, exc)
    return _answer(kind, _detail(exc))


async def _on_invalid_request(_request: Request, exc: Exception) -> Response:
    if not isinstance(exc, RequestValidationError):
        raise exc
    errors = [_describe(error["loc"], error["msg"]) for error in exc.errors()]
    detail = "; ".join(f"{error['field']}: {error['message']}" for error in errors)
    return _answer(_INVALID_REQUEST, detail, errors)


def _describe(location: tuple[int | str, ...], message: str) -> dict[str, str]:
    if location[0] == "body" and location[1:] != ("url",):
        message = f"{message}; {_EXPECTED_BODY}"
    return {"field": ".".join(str(part) for part in location), "message": message}


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        raise exc
    status = HTTPStatus(exc.status_code)
    slug = status.phrase.lower().replace(" ", "-")
    answer = _answer(Kind(status, slug, status.phrase), exc.detail)
    answer.headers.update(exc.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers.update(_allow(request))
    return answer


def _allow(request: Request) -> dict[str, str]:
    """Name all methods of a path: Starlette names those of one route."""
    calls = request.app.openapi()["paths"].get(request.url.path)
    return {"Allow": ", ".join(sorted(method.upper() for method in calls))} if calls else {}


async def answer_unforeseen(request: Request, exc: Exception) -> Response:
    """Log an error that nothing else has caught, and answer 500."""
    logger.opt(exception=exc).error("unhandled_error", method=request.method, path=request.url.path)
    return _answer(_UNFORESEEN, "The error has been logged; please try again later.")


def _detail(exc: Exception) -> str:
    return _NOT_QUEUED.get(exc.reason, exc.reason) if isinstance(exc, PublishError) else str(exc)


def _answer(kind: Kind, detail: str, errors: list[dict[str, str]] | None = None) -> Response:
    problem = Problem(
        type=f"urn:page-metadata:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        errors=errors,
    )
    unavailable = kind.status is HTTPStatus.SERVICE_UNAVAILABLE
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=kind.status,
        media_type=MEDIA_TYPE,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)} if unavailable else None,
    )
