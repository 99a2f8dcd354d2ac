"""How the OpenAPI document describes answers: each status with its headers, schema and examples.

A route names its answers by `answer()` and `problems()`; FastAPI puts them into the document.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from inspect import getsource
from itertools import groupby
from operator import attrgetter
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from app.api.access import SECURITY_SCHEME
from app.api.problems import MEDIA_TYPE, ProblemKind
from app.api.schemas import Problem
from app.models import ErrorKind

Responses = dict[int | str, dict[str, Any]]

TAGS = [
    {"name": "metadata", "description": "Ask for a page, and read what was found."},
    {"name": "health", "description": "The state of the process, for whatever supervises it."},
]

_PAGE_ADDRESS = "/metadata?url=https%3A%2F%2Fexample.com%2F"


def _header(description: str, example: object = None, **schema: object) -> dict[str, Any]:
    """Describe a header that each answer of its kind has."""
    shown = {} if example is None else {"example": example}
    return {
        "description": description,
        "required": True,
        "schema": {"type": "string"} | schema,
    } | shown


LOCATION = {
    "Location": _header("Where the page can be read.", _PAGE_ADDRESS, format="uri-reference")
}
RETRY_AFTER = {
    "Retry-After": _header("Seconds after which to ask again.", 5, type="integer", minimum=1)
}
CONTENT_LOCATION = {
    "Content-Location": _header(
        "Where the same page can be read again, with the same `fields`.",
        _PAGE_ADDRESS,
        format="uri-reference",
    )
}
VALIDATORS = {
    "ETag": _header(
        "Changes with anything in the answer. For `If-None-Match`.",
        '"4d186321c1a7f0f354b297e8914ab240"',
        pattern='^"[0-9a-f]+(-gzip)?"$',
    ),
    "Last-Modified": _header(
        "When the record last changed, to the second.", "Thu, 01 Jan 2026 00:00:05 GMT"
    ),
    "Cache-Control": _header(
        "A cache is to ask each time whether the answer has changed.", "no-cache"
    ),
    "Vary": _header(
        "The answer is compressed or not, as `Accept-Encoding` asks.", "Accept-Encoding"
    ),
}
SOURCE_HEADERS = VALIDATORS | {
    "Content-Disposition": _header(
        "`attachment`: a browser saves the source, and does not show it."
    ),
    "Content-Security-Policy": _header("`sandbox`: nothing in the source may run."),
    "X-Content-Type-Options": _header("`nosniff`: it is plain text, whatever it looks like."),
}
APPLIED = {
    "Preference-Applied": {
        "description": "The `Prefer` of the request, as far as it was followed.",
        "schema": {"type": "string"},
        "example": "wait=5",
    }
}

CHALLENGE = {
    "WWW-Authenticate": _header(
        "What is missing (RFC 6750, section 3).",
        'Bearer realm="page-metadata", error="insufficient_scope", scope="write"',
    )
}
LIMITS = {
    "RateLimit-Policy": {
        "description": "The limit of the key or address; not there if it has none.",
        "schema": {"type": "string"},
        "example": '"key";q=600;w=60',
    },
    "RateLimit": {
        "description": "What is left of it (`r`), and for how many seconds (`t`).",
        "schema": {"type": "string"},
        "example": '"key";r=0;t=3',
    },
}
_PROBLEM_HEADERS: dict[HTTPStatus, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: CHALLENGE,
    HTTPStatus.FORBIDDEN: CHALLENGE,
    HTTPStatus.TOO_MANY_REQUESTS: RETRY_AFTER | LIMITS,
    HTTPStatus.SERVICE_UNAVAILABLE: RETRY_AFTER,
}
"""The headers of problems, by their status."""

PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": (
        "`wait=N`: answer when the page has ended, but after N seconds at the latest (RFC 7240). "
        "N is at most 60; a larger one counts as 60. Ignored where the process has as many waiting "
        "callers as it takes, and if it cannot be read."
    ),
    "schema": {"type": "string"},
    "example": "wait=5",
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of an answer that the caller has: 304 if it is still right.",
    "schema": {"type": "string"},
    "example": '"4d186321c1a7f0f354b297e8914ab240"',
}


def parameters(*described: dict[str, Any]) -> dict[str, Any]:
    """Describe headers of a request that the application reads by itself."""
    return {"parameters": list(described)}


def not_modified() -> Responses:
    """Describe the answer to a caller that has the page already."""
    described = {"description": "The page is as the caller has it", "headers": VALIDATORS}
    return {int(HTTPStatus.NOT_MODIFIED): described}


def plain_text(
    description: str, examples: Mapping[str, str | None], headers: dict[str, Any]
) -> Responses:
    """Describe an answer in plain text."""
    values = {name: {"value": text} for name, text in examples.items()}
    content = {"text/plain": {"schema": {"type": "string"}, "examples": values}}
    return {int(HTTPStatus.OK): _response(description, content, headers)}


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
    headers = _PROBLEM_HEADERS.get(kinds[0].status)
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


KEY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "pm_<id>_<secret>",
    "description": (
        "A key that `pagemeta keys create` has made. Each call names the scope that the key has to "
        "have."
    ),
}


def complete_openapi(app: FastAPI) -> None:
    """Correct what FastAPI generates: examples, schemas, keys, no answer 422."""
    generate = app.openapi

    @cache  # FastAPI returns the same object each time, which is to be corrected once
    def openapi() -> dict[str, Any]:
        document = generate()
        declared = _declared_responses(app)
        for calls in document["paths"].values():
            for call in calls.values():
                _correct(call["responses"], declared[call["operationId"]])
                if not app.state.key_required and "security" in call:
                    # An empty requirement among them: the call may be made without a key too.
                    call["security"] = [{}, call["security"][-1]]
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        document["components"]["securitySchemes"] = {SECURITY_SCHEME: KEY_SCHEME}
        schemas[Problem.__name__] = Problem.model_json_schema()
        schemas[ErrorKind.__name__]["description"] += f"\n\n{_values_of(ErrorKind)}"
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to extend the document


def _values_of(enum: type[StrEnum]) -> str:
    """Return a Markdown list of the values of an enum, each with the string below it.

    pydantic reads the strings below fields (`use_attribute_docstrings`), but not these.
    """
    texts = re.findall(r'= "([^"]+)"\n +"""([^"]+)"""', getsource(enum))
    return "\n".join(f"- `{value}`: {' '.join(text.split())}" for value, text in texts)


def _declared_responses(app: FastAPI) -> dict[str, Responses]:
    """Return what each route of the document declares, by its name, which is its operation id."""
    return {
        it.name or "": it.responses
        for it in iter_route_contexts(app.routes)
        if isinstance(it.original_route, APIRoute) and it.original_route.include_in_schema
    }


def _correct(responses: dict[str, Any], declared: Responses) -> None:
    responses.pop("422", None)
    for status, response in declared.items():
        for media_type, content in response.get("content", {}).items():
            # FastAPI leaves out every null of the document, those of examples too.
            responses[str(status)]["content"][media_type]["examples"] = content["examples"]
