"""The OpenAPI document: complete, and true of what is answered."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator, FormatChecker

from app.api.application import create_app
from app.api.middleware import MAX_BATCH_BYTES
from app.api.problems import (
    BAD_AUTHORIZATION,
    BODY_TOO_LARGE,
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_BODY,
    INVALID_QUERY,
    INVALID_URL,
    KEY_IN_URL,
    NO_VALID_KEY,
    NOT_QUEUED,
    SCOPE_MISSING,
    TOO_MANY_REQUESTS,
    UNKNOWN_PAGE,
    UNKNOWN_REQUEST,
    ProblemKind,
)
from app.errors import InventoryError, PublishFailed, PublishFault, StoreUnavailable
from app.models import METADATA_FIELDS, ErrorKind, PageRequest
from app.runtime.settings import Settings
from app.services import Inventory
from tests.fakes import URL, FakePages, FakePublisher

OF_KEYS = {"401", "403", "429"}
"""What every call that needs a key may be answered."""

JSON, PROBLEM = "application/json", "application/problem+json"


@pytest.fixture
def app(default_api: FastAPI) -> FastAPI:
    return default_api


@pytest.fixture
def document(openapi: Any) -> Any:
    return openapi


class Answer(NamedTuple):
    method: str
    path: str
    status: str
    described: Any


def all_answers(document: Any) -> Iterator[Answer]:
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            for status, described in call["responses"].items():
                yield Answer(method, path, status, described)


def answers(document: Any, *, with_body: bool = True) -> Iterator[Answer]:
    return (it for it in all_answers(document) if (it.status not in ("204", "304")) == with_body)


def test_the_document_is_the_same_each_time_it_is_asked_for(app: FastAPI) -> None:
    first = json.dumps(app.openapi())
    assert json.dumps(app.openapi()) == first


def test_exactly_the_statuses_that_are_answered_are_described(document: Any) -> None:
    described = {
        f"{method} {path}": set(call["responses"])
        for path, calls in document["paths"].items()
        for method, call in calls.items()
    }
    assert described == {
        "post /metadata": {"200", "202", "400", "413", "500", "503", *OF_KEYS},
        "get /metadata": {"200", "202", "304", "400", "404", "500", "503", *OF_KEYS},
        "delete /metadata": {"204", "400", "500", "503", *OF_KEYS},
        "get /metadata/requests/{request_id}": {"200", "400", "404", "500", "503", *OF_KEYS},
        "get /metadata/source": {"200", "304", "400", "404", "500", "503", *OF_KEYS},
        "get /metadata/pages": {"200", "400", "500", "503", *OF_KEYS},
        "post /metadata/batch": {"207", "400", "413", "500", "503", *OF_KEYS},
        "get /health/live": {"200"},
        "get /health/ready": {"200", "503"},
    }


def test_every_error_is_problem_details(document: Any) -> None:
    for answer in answers(document):
        failed = answer.status >= "400" and not answer.path.startswith("/health")
        good = "text/plain" if answer.path == "/metadata/source" else JSON
        assert list(answer.described["content"]) == [PROBLEM if failed else good]


def test_an_answer_that_says_that_nothing_has_changed_has_no_body(document: Any) -> None:
    for answer in answers(document, with_body=False):
        assert "content" not in answer.described


def test_every_answer_has_a_schema_and_examples_that_fit_it(document: Any) -> None:
    for answer in answers(document):
        (media,) = answer.described["content"].values()
        assert media["examples"]
        schema = Draft202012Validator(
            {**media["schema"], "components": document["components"]},
            format_checker=FormatChecker(),
        )
        for example in media["examples"].values():
            schema.validate(example["value"])


def test_the_headers_of_an_answer_are_described(document: Any) -> None:
    found = {
        f"{answer.method} {answer.path} {answer.status}": set(answer.described["headers"])
        for answer in all_answers(document)
        if "headers" in answer.described and answer.status not in OF_KEYS
    }
    validators = {"ETag", "Last-Modified", "Cache-Control", "Vary"}
    assert found == {
        "post /metadata 200": {*validators, "Content-Location", "Preference-Applied"},
        "post /metadata 202": {"Location", "Preference-Applied"},
        "post /metadata 503": {"Retry-After"},
        "get /metadata 200": {*validators, "Preference-Applied"},
        "get /metadata 202": {"Retry-After", "Preference-Applied"},
        "get /metadata 304": validators,
        "get /metadata 503": {"Retry-After"},
        "delete /metadata 503": {"Retry-After"},
        "get /metadata/requests/{request_id} 503": {"Retry-After"},
        "get /metadata/source 200": {
            *validators,
            *("Content-Disposition", "Content-Security-Policy", "X-Content-Type-Options"),
        },
        "get /metadata/source 304": validators,
        "get /metadata/source 503": {"Retry-After"},
        "get /metadata/pages 503": {"Retry-After"},
        "post /metadata/batch 503": {"Retry-After"},
    }


@pytest.mark.parametrize("status", sorted(OF_KEYS))
def test_answers_about_keys_have_the_same_headers_in_every_call(document: Any, status: str) -> None:
    limits = {"Retry-After", "RateLimit", "RateLimit-Policy"}
    found = [set(it.described["headers"]) for it in all_answers(document) if it.status == status]
    assert found == 7 * [limits if status == "429" else {"WWW-Authenticate"}]


def test_each_call_names_the_scope_that_its_key_has_to_have(settings: Settings) -> None:
    for auth in ("required", "off"):
        app = create_app(settings.model_copy(update={"api_auth": auth}))
        without_key: list[Any] = [{}] if auth == "off" else []
        paths = app.openapi()["paths"]
        named = {
            f"{method} {path}": call.get("security")
            for path, calls in paths.items()
            for method, call in calls.items()
        }
        read, write, delete = (
            [*without_key, {"key": [scope]}] for scope in ("read", "write", "delete")
        )
        assert named == {
            "post /metadata": write,
            "get /metadata": read,
            "delete /metadata": delete,
            "get /metadata/source": read,
            "get /metadata/requests/{request_id}": read,
            "get /metadata/pages": read,
            "post /metadata/batch": write,
            "get /health/live": None,
            "get /health/ready": None,
        }
        assert app.openapi()["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_every_parameter_is_described_once(document: Any) -> None:
    found = {
        f"{method} {path}": [it["name"] for it in call.get("parameters", []) if it["description"]]
        for path, calls in document["paths"].items()
        for method, call in calls.items()
        if path.startswith("/metadata")
    }
    assert {call: sorted(names) for call, names in found.items()} == {
        "post /metadata": ["Prefer", "fields"],
        "get /metadata": ["If-None-Match", "Prefer", "fields", "max_age", "queue", "url"],
        "delete /metadata": ["url"],
        "get /metadata/source": ["If-None-Match", "url"],
        "get /metadata/requests/{request_id}": ["request_id"],
        "get /metadata/pages": ["cursor", "host", "limit", "q", "status", "updated_since"],
        "post /metadata/batch": [],
    }


def test_a_selection_of_fields_may_name_each_field_of_the_metadata(document: Any) -> None:
    parameters = document["paths"]["/metadata"]["get"]["parameters"]
    (schema,) = (it["schema"] for it in parameters if it["name"] == "fields")
    validator = Draft202012Validator(schema)
    assert schema["type"] == "string"
    whole = document["components"]["schemas"]["PageMetadata"]["properties"]
    selected = document["components"]["schemas"]["SelectedMetadata"]
    assert set(selected["properties"]) == set(whole) == METADATA_FIELDS
    assert "required" not in selected
    for right in ("", *whole, ",".join(whole)):
        assert validator.is_valid(right)
    for wrong in (",", "nothing", "status_code,", "status_code, headers"):
        assert not validator.is_valid(wrong)


def test_every_field_is_described(document: Any) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, described in schema.get("properties", {}).items()
        if not described.get("description")
    ]
    assert bare == []


def test_the_schemas_of_fastapis_own_validation_errors_are_left_out(document: Any) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])


def test_calls_have_names_a_person_would_choose(document: Any) -> None:
    names = [call["operationId"] for calls in document["paths"].values() for call in calls.values()]
    assert names == [
        *("request_metadata", "read_metadata", "delete_page", "read_source", "read_request"),
        *("list_pages", "request_batch"),
        *("live", "ready"),
    ]
    assert {tag["name"] for tag in document["tags"]} == {"metadata", "health"}


# --- Problems ---

TYPES = [
    (INVALID_URL, 400, "invalid-url"),
    (INVALID_BODY, 400, "invalid-request"),
    (INVALID_QUERY, 400, "invalid-request"),
    (BODY_TOO_LARGE, 413, "request-entity-too-large"),
    (UNKNOWN_PAGE, 404, "unknown-page"),
    (UNKNOWN_REQUEST, 404, "unknown-request"),
    (KEY_IN_URL, 400, "key-in-url"),
    (BAD_AUTHORIZATION, 400, "bad-authorization"),
    (NO_VALID_KEY, 401, "no-valid-key"),
    (SCOPE_MISSING, 403, "scope-missing"),
    (TOO_MANY_REQUESTS, 429, "too-many-requests"),
    (NOT_QUEUED, 503, "not-queued"),
    (DATABASE_UNAVAILABLE, 503, "database-unavailable"),
    (INTERNAL_ERROR, 500, "internal-error"),
]


@pytest.mark.parametrize(("kind", "status", "end"), TYPES, ids=[it[2] for it in TYPES])
def test_programs_can_rely_on_the_status_and_type_of_a_problem(
    kind: ProblemKind, status: int, end: str
) -> None:
    problem = kind.problem("something")
    assert (problem.status, problem.type) == (status, f"urn:page-metadata:problem:{end}")


class RefusingPublisher(FakePublisher):
    def __init__(self, error: InventoryError) -> None:
        super().__init__()
        self._error = error

    async def publish(self, request: PageRequest) -> None:
        del request
        raise self._error


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    put_together(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


def put_together(
    app: FastAPI,
    *,
    refusing: InventoryError | None = None,
    failing: Exception | None = None,
) -> None:
    pages = FakePages()
    pages.failing = (lambda: failing) if failing else None
    publisher = RefusingPublisher(refusing) if refusing else FakePublisher()
    app.state.inventory = Inventory(publisher=publisher, pages=pages)


def example_of(
    document: Any, method: str, status: int, name: str, *, path: str = "/metadata"
) -> Any:
    response = document["paths"][path][method]["responses"][str(status)]
    (media,) = response["content"].values()
    return media["examples"][name]["value"]


async def answered(client: httpx.AsyncClient, method: str, url: str | None = URL) -> httpx.Response:
    if method == "post":
        return await client.post("/metadata", json={} if url is None else {"url": url})
    return await client.get("/metadata", params={} if url is None else {"url": url})


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize(("url", "name"), [("example.com", "No scheme"), (None, "No URL")])
async def test_the_examples_of_bad_requests_are_what_is_answered(
    client: httpx.AsyncClient, document: Any, method: str, url: str | None, name: str
) -> None:
    answer = await answered(client, method, url)
    assert answer.json() == example_of(document, method, 400, name)


async def test_the_examples_about_requests_are_what_is_answered(
    client: httpx.AsyncClient, document: Any
) -> None:
    path = "/metadata/requests/{request_id}"
    responses = document["paths"][path]["get"]["responses"]
    for name, status in (("6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11", 404), ("x", 400)):
        answer = await client.get(path.format(request_id=name))
        (media,) = responses[str(status)]["content"].values()
        assert answer.json() in [it["value"] for it in media["examples"].values()]


async def test_the_example_of_a_body_that_is_too_large_is_what_is_answered(
    client: httpx.AsyncClient, document: Any
) -> None:
    answer = await client.post("/metadata", content=b" " * 20_000)
    assert answer.json() == example_of(document, "post", 413, "Over 16 KiB")


async def test_the_example_of_a_batch_that_is_too_large_is_what_is_answered(
    client: httpx.AsyncClient, document: Any
) -> None:
    answer = await client.post("/metadata/batch", content=b" " * (MAX_BATCH_BYTES + 1))
    path = "/metadata/batch"
    assert answer.json() == example_of(document, "post", 413, "Over 4 MiB", path=path)


@pytest.mark.parametrize("reason", NOT_QUEUED.examples)
async def test_the_example_of_a_request_that_cannot_be_queued_is_what_is_answered(
    app: FastAPI, client: httpx.AsyncClient, document: Any, reason: str
) -> None:
    put_together(app, refusing=PublishFailed(PublishFault(reason)))
    for method in ("post", "get"):
        answer = await answered(client, method)
        assert answer.json() == example_of(document, method, 503, reason)


async def test_the_example_of_a_missing_database_is_what_is_answered_whatever_its_driver_says(
    app: FastAPI, client: httpx.AsyncClient, document: Any
) -> None:
    put_together(app, failing=StoreUnavailable("AutoReconnect: mongo-1.internal:27017: refused"))
    answer = await answered(client, "get")
    assert answer.json() == example_of(document, "get", 503, "No answer")


@pytest.mark.parametrize("method", ["post", "get"])
async def test_the_example_of_an_internal_error_is_what_is_answered(
    app: FastAPI, client: httpx.AsyncClient, document: Any, method: str
) -> None:
    put_together(app, failing=ZeroDivisionError())
    answer = await answered(client, method)
    assert answer.json() == example_of(document, method, 500, "A bug")


def test_every_kind_of_error_has_a_text(document: Any) -> None:
    described = document["components"]["schemas"]["ErrorKind"]["description"]
    assert re.findall(r"^- `(\w+)`: [A-Z].+\.$", described, re.MULTILINE) == list(ErrorKind)


async def test_a_method_that_is_not_allowed_is_told_all_that_are(client: httpx.AsyncClient) -> None:
    answer = await client.put("/metadata")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, POST")


async def test_a_call_of_the_source_is_told_what_is_allowed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/metadata/source")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_a_page_that_is_not_in_the_document_says_what_is_allowed_too(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.delete("/docs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
