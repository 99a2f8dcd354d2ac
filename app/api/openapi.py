"""What the OpenAPI document says of answers: each status with its headers, schema and examples."""

from collections.abc import Mapping
from http import HTTPStatus
from itertools import groupby
from operator import attrgetter
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from app.api import examples
from app.api.problems import (
    BODY_TOO_LARGE,
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_BODY,
    INVALID_QUERY,
    INVALID_URL,
    MEDIA_TYPE,
    NOT_QUEUED,
    ProblemKind,
)
from app.api.schemas import Health, NotReady, PendingPage, Problem

Responses = dict[int | str, dict[str, Any]]

TAGS = [
    {"name": "metadata", "description": "Ask for a page, and read what was found."},
    {"name": "health", "description": "The state of the process, for whatever supervises it."},
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


def answer(
    status: HTTPStatus,
    description: str,
    examples: Mapping[str, BaseModel],
    headers: dict[str, Any] | None = None,
    **more: Any,
) -> Responses:
    """Describe an answer in JSON; `model` among the rest names its schema."""
    content = {"application/json": {"examples": _dumped(examples)}}
    return {int(status): _response(description, content, headers) | more}


def problems(*kinds: ProblemKind) -> Responses:
    """Describe the errors of a call. Those with the same status are one answer."""
    by_status = groupby(sorted(kinds, key=attrgetter("status")), key=attrgetter("status"))
    return {int(status): _problem(list(same)) for status, same in by_status}


def _problem(kinds: list[ProblemKind]) -> dict[str, Any]:
    examples = {
        name: kind.problem(detail) for kind in kinds for name, detail in kind.examples.items()
    }
    content = {
        MEDIA_TYPE: {
            "schema": {"$ref": f"#/components/schemas/{Problem.__name__}"},
            "examples": _dumped(examples, exclude_none=True),
        }
    }
    headers = RETRY_AFTER if "Retry-After" in kinds[0].headers else None
    return _response(", or: ".join(kind.title for kind in kinds), content, headers)


def _dumped(examples: Mapping[str, BaseModel], **options: Any) -> dict[str, Any]:
    return {
        name: {"value": value.model_dump(mode="json", **options)}
        for name, value in examples.items()
    }


def _response(
    description: str, content: dict[str, Any], headers: dict[str, Any] | None
) -> dict[str, Any]:
    described = {"description": description, "content": content}
    return described | ({"headers": headers} if headers else {})


# --- The answers of each call ---------------------------------------------------------------------

REQUEST_METADATA = answer(
    HTTPStatus.ACCEPTED,
    "The request is queued, and the broker has confirmed it",
    examples.QUEUED_ANSWER,
    LOCATION,
) | problems(INVALID_URL, INVALID_BODY, BODY_TOO_LARGE, NOT_QUEUED, INTERNAL_ERROR)

READ_METADATA = (
    answer(HTTPStatus.OK, "The page, or why it cannot be fetched", examples.ENDED)
    | answer(HTTPStatus.ACCEPTED, "No result yet", examples.PENDING, RETRY_AFTER, model=PendingPage)
    | problems(INVALID_URL, INVALID_QUERY, DATABASE_UNAVAILABLE, NOT_QUEUED, INTERNAL_ERROR)
)

LIVE = answer(HTTPStatus.OK, "The process is alive", {"Alive": Health(status="ok")})

READY = answer(
    HTTPStatus.OK, "Requests can be queued and read", {"Ready": Health(status="ready")}
) | answer(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Something is missing",
    {
        "No broker": NotReady(reason="publisher is RECONNECTING"),
        "No database": NotReady(reason="database does not answer"),
    },
    model=NotReady,
)


# --- The document ---------------------------------------------------------------------------------


def complete_openapi(app: FastAPI) -> None:
    """Correct what FastAPI generates: examples, the schema of problems, no answer 422."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for route in iter_route_contexts(app.routes):
            if isinstance(route.original_route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    call = document["paths"][route.path_format][method.lower()]
                    _correct(call, route.responses)
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas[Problem.__name__] = Problem.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to extend the document


def _correct(call: dict[str, Any], declared: Responses) -> None:
    call["responses"].pop("422", None)
    for status, response in declared.items():
        for media_type, content in response["content"].items():
            # FastAPI leaves out whatever is null in the document, in examples too.
            call["responses"][str(status)]["content"][media_type]["examples"] = content["examples"]
