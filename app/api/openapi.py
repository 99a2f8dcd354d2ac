"""What the OpenAPI document says of answers: every status, with its headers and examples."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from app.api import examples
from app.api.examples import Examples
from app.api.problems import MEDIA_TYPE
from app.api.schemas import NotReady, PendingPage, Problem
from app.models import Cookie, Header, PageError, PageMetadata, Redirect

Responses = dict[int | str, dict[str, Any]]

TAGS = [
    {"name": "metadata", "description": "Ask for a page, and read what was found."},
    {"name": "health", "description": "How the process is, for what supervises it."},
]

LOCATION = {
    "Location": {
        "description": "Where the page can be read.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/metadata?url=https%3A%2F%2Fexample.com%2F",
    }
}
RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to ask again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 5,
    }
}


def _answer(
    status: HTTPStatus,
    description: str,
    examples: Examples,
    headers: Mapping[str, Any] | None = None,
    **more: Any,
) -> Responses:
    """Describe an answer in JSON; `model` among the rest names its schema."""
    content = {"application/json": {"examples": _named(examples)}}
    return {int(status): _response(description, content, headers, more)}


def _problem(status: HTTPStatus, description: str, examples: Examples) -> Responses:
    """Describe an error, which is problem details."""
    content = {
        MEDIA_TYPE: {
            "schema": {"$ref": f"#/components/schemas/{Problem.__name__}"},
            "examples": _named(examples),
        }
    }
    headers = RETRY_AFTER if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return {int(status): _response(description, content, headers, {})}


def _response(
    description: str, content: dict[str, Any], headers: Mapping[str, Any] | None, more: Any
) -> dict[str, Any]:
    described = {"description": description, "content": content, **more}
    return described | ({"headers": headers} if headers else {})


def _named(examples: Examples) -> dict[str, Any]:
    return {name: {"value": value} for name, value in examples.items()}


# --- The answers of each call ---------------------------------------------------------------------

_UNFORESEEN = _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "A mistake of ours", examples.UNFORESEEN)

REQUEST_METADATA = (
    _answer(
        HTTPStatus.ACCEPTED,
        "Queued, which the broker has confirmed",
        examples.QUEUED_ANSWER,
        LOCATION,
    )
    | _problem(
        HTTPStatus.BAD_REQUEST,
        "Not a request for a page",
        examples.BAD_URL | examples.no_url("body"),
    )
    | _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "A body over 16 KiB", examples.TOO_LARGE)
    | _problem(HTTPStatus.SERVICE_UNAVAILABLE, "Could not be queued", examples.NOT_QUEUED)
    | _UNFORESEEN
)

READ_METADATA = (
    _answer(HTTPStatus.OK, "The page, or why it can't be had", examples.ENDED)
    | _answer(
        HTTPStatus.ACCEPTED, "Not there yet", examples.PENDING, RETRY_AFTER, model=PendingPage
    )
    | _problem(
        HTTPStatus.BAD_REQUEST, "Not the URL of a page", examples.BAD_URL | examples.no_url("query")
    )
    | _problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Could not be read, or not be queued",
        examples.NO_DATABASE | examples.NOT_QUEUED,
    )
    | _UNFORESEEN
)

LIVE = _answer(HTTPStatus.OK, "It is", examples.LIVE)

READY = _answer(HTTPStatus.OK, "Yes", examples.READY) | _answer(
    HTTPStatus.SERVICE_UNAVAILABLE, "Not now", examples.NOT_READY, model=NotReady
)

_CALLS: dict[str, Responses] = {
    "request_metadata": REQUEST_METADATA,
    "read_metadata": READ_METADATA,
    "live": LIVE,
    "ready": READY,
}


# --- The document ---------------------------------------------------------------------------------

# The records are plain dataclasses, whose module knows nothing of schemas.
_FIELDS: dict[type, dict[str, str]] = {
    PageMetadata: {
        "final_url": "Where the page was in the end, after all redirects",
        "status_code": "The status it was sent with",
        "http_version": "HTTP/1.1, for example",
        "headers": "The response headers, in order, duplicates kept",
        "cookies": "The cookies that were set, in order, duplicates kept",
        "page_source": "The body as text; null if it is not text",
        "page_source_truncated": "Whether the body went on beyond what is kept of one",
        "content_type": "The media type, without parameters",
        "charset": "The encoding the text was decoded from",
        "body_bytes": "Bytes of the body after content decoding, as far as it was read",
        "body_sha256": "SHA-256 of those bytes, in hexadecimal",
        "redirects": "The hops on the way to the page, in order",
        "remote_address": "The IP address that answered",
        "elapsed_ms": "Milliseconds that the whole fetch took",
        "fetched_at": "When it was fetched",
    },
    Header: {"name": "As it was sent", "value": "As it was sent"},
    Cookie: {
        "name": "Its name",
        "value": "Its value",
        "domain": "Where it is valid, if it says",
        "path": "Below which path it is valid, if it says",
        "expires": "When it expires, if it says",
        "max_age": "Seconds after which it expires, if it says",
        "secure": "Whether it is for https alone",
        "http_only": "Whether it is kept from scripts",
        "same_site": "Strict, Lax or None, if it says",
    },
    Redirect: {
        "url": "What was asked for",
        "status_code": "The status of the answer, 301 for example",
        "location": "Where it pointed to, as it was sent",
    },
    PageError: {
        "kind": "What kind of fault it was: compare this",
        "message": "What happened, for a person",
    },
}


def complete_openapi(app: FastAPI) -> None:
    """Have the document say more of schemas, and promise no 422, which is never sent."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for calls in document["paths"].values():
            for call in calls.values():
                call["responses"].pop("422", None)
                _restore_examples(call)
        _describe_schemas(document["components"]["schemas"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to extend the document


def _restore_examples(call: dict[str, Any]) -> None:
    """Put back what is null in an example: FastAPI leaves it out of the whole document."""
    for status, described in _CALLS.get(call["operationId"], {}).items():
        for media, content in described["content"].items():
            call["responses"][str(status)]["content"][media]["examples"] = content["examples"]


def _describe_schemas(schemas: dict[str, Any]) -> None:
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas[Problem.__name__] = Problem.model_json_schema()
    for described, fields in _FIELDS.items():
        for name, text in fields.items():
            schemas[described.__name__]["properties"][name]["description"] = text
