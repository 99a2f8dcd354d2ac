"""What HTTP callers send and receive."""

import re
from collections.abc import Callable, Container, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    create_model,
)
from pydantic.json_schema import SkipJsonSchema

from app.models import (
    LISTED_FIELDS,
    METADATA_FIELDS,
    SUMMARY_FIELDS,
    Document,
    ListedStatus,
    PageError,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    Refresh,
    RequestRecord,
)
from app.urls import MAX_URL_LENGTH

# The last label of a name begins with a letter: the URL standard takes any other for the end of an
# IPv4 address. A label with `xn--` in front has to decode.
_LABEL = r"(?![Xx][Nn]--)[A-Za-z0-9_-]{1,63}"
_LAST_LABEL = r"(?![Xx][Nn]--)[A-Za-z][A-Za-z0-9_-]{0,62}"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HOST = rf"(?![^/:]{{254}})(({_LABEL}\.)*{_LAST_LABEL}|{_BYTE}(\.{_BYTE}){{3}})"
_PORT = r":(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})"
# Those of ASCII that the canonical form neither encodes nor leaves out with a fragment, so that the
# length of what is given is that of the canonical form.
_UNENCODED = r"[!$-&(-;=?-\]_a-z|~]"

PAGE_URL: dict[str, Any] = {
    "title": "Page URL",
    "description": (
        "An absolute http or https URL without credentials. The service makes it canonical and "
        "answers with the canonical form. A fragment, which it leaves out, characters that it "
        "encodes, such as those outside ASCII, and every address of a host are accepted too, "
        "although this pattern does not match them; the length that counts is that of the "
        "canonical form."
    ),
    "examples": ["https://example.com/"],
    "json_schema_extra": {
        "maxLength": MAX_URL_LENGTH,
        "pattern": f"^[Hh][Tt][Tt][Pp][Ss]?://{_HOST}({_PORT})?(/{_UNENCODED}*)?$",
    },
}
"""What callers may rely on, in a body and in a query. It is published but not checked here:
`app/urls.py` checks URLs and can say what is wrong with one."""


MAX_AGE: dict[str, Any] = {
    "title": "Maximum age",
    "description": (
        "In seconds. A page whose result was stored or confirmed longer ago is fetched again."
    ),
    "examples": [3600],
    "ge": 0,
    "le": 2**31 - 1,
}


def _whole(value: object) -> object:
    """Take 3600.0 for 3600, as JSON Schema does. A string or a boolean is still no number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Schema(BaseModel):
    """Takes the descriptions of fields from the strings below them.

    That includes the fields of the dataclasses in `app/models.py` that a schema refers to:
    pydantic applies the configuration of a model to plain dataclasses in its fields.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)


_FIELD = "|".join(sorted(METADATA_FIELDS))

FIELDS: dict[str, Any] = {
    "title": "Fields of the metadata",
    "description": (
        "Names of fields of `metadata`, separated by commas: only these are answered, and nothing "
        "else of it is read from the database. Without the parameter all are answered, and none "
        f"if it is empty. The names are: {', '.join(sorted(METADATA_FIELDS))}."
    ),
    "examples": ["status_code,headers"],
    "json_schema_extra": {"pattern": f"^(({_FIELD})(,({_FIELD}))*)?$"},
}
"""The selection of fields. It is published but not checked here: `app/api/selection.py` can say
which name is unknown."""


MaxAge = Annotated[int | None, BeforeValidator(_whole)]


class MetadataRequest(_Schema):
    """The body of `POST /metadata`."""

    url: str = Field(**PAGE_URL)

    max_age: MaxAge = Field(default=None, strict=True, **MAX_AGE)


class PageQuery(_Schema):
    """The query of `GET /metadata`."""

    url: str = Field(**PAGE_URL)

    max_age: int | None = Field(default=None, **MAX_AGE)

    queue: bool = True
    """Whether the call may have the page fetched. If not, an unknown page is answered 404."""

    fields: str | SkipJsonSchema[None] = Field(default=None, **FIELDS)


CURSOR = "[0-9]{1,14}-[0-9a-f]{24}"
"""A time in milliseconds since 1970 and the key of a record, for `app/api/lists.py` alone."""


def _statuses(values: list[str]) -> list[str]:
    """Leave out the empty text that a form sends where nobody has chosen a status."""
    return [value for value in values if value]


def _moment(text: str) -> str | None:
    """Return None for the empty text that a form sends where nobody has entered a time."""
    if text and not re.match("[0-9]{4}-", text):  # pydantic takes a number for seconds since 1970
        raise ValueError("not a time; write it like 2026-01-31T12:00:00Z")
    return text or None


def _or_empty(**kind: str) -> Callable[[dict[str, Any]], None]:
    """Publish that a parameter is a text of a kind, or empty."""
    kinds = [{"type": "string"} | kind, {"type": "string", "maxLength": 0}]

    def change(schema: dict[str, Any]) -> None:
        for name in ("type", "pattern"):
            schema.pop(name, None)
        schema["anyOf"] = kinds

    return change


class ListQuery(_Schema):
    """The query of `GET /metadata/pages`. A page is listed if all that is given holds."""

    status: Annotated[list[ListedStatus], BeforeValidator(_statuses)] = Field(
        default=[],
        json_schema_extra={"items": {"type": "string", "enum": ["", *get_args(ListedStatus)]}},
    )
    """How far the page has come. Several may be given; without any, all are listed."""

    host: str = Field(default="", max_length=300, examples=["example.com"])
    """The host of the URLs, whatever their port. If this is a whole URL, its host counts. A text
    that is no host finds nothing."""

    updated_since: Annotated[AwareDatetime | None, BeforeValidator(_moment)] = Field(
        default=None,
        examples=["2026-01-01T00:00:00Z"],
        json_schema_extra=_or_empty(format="date-time"),
    )
    """The record has changed at this time or later."""

    q: str = Field(default="", max_length=200, examples=["exam"])
    """Words. Each has to begin a word of the title or a part of the host: `shop` finds
    `www.my-shop.example`. The last label of a host does not count."""

    limit: int = Field(default=50, ge=1, le=100)
    """How many pages to list."""

    cursor: str | SkipJsonSchema[None] = Field(
        default=None,
        pattern=f"^({CURSOR})?$",
        json_schema_extra=_or_empty(pattern=f"^{CURSOR}$"),
    )
    """The `next` of an answer, to go on after its last page. The filters are to be sent again."""


class QueuedAnswer(_Schema):
    """A request was queued."""

    status: Literal[PageStatus.QUEUED] = PageStatus.QUEUED
    """The state of the request."""

    url: str
    """The URL in its canonical form."""

    request_id: UUID
    """Identifies this request, in the logs too."""

    @staticmethod
    def of(request: PageRequest) -> "QueuedAnswer":
        """Return the answer to a request that was just queued."""
        return QueuedAnswer(url=request.url, request_id=request.request_id)


class _Page(_Schema):
    """What every answer about a page has."""

    status: PageStatus

    url: str
    """The URL in its canonical form."""

    attempts: int
    """Fetches made for the latest request."""

    request_id: UUID | None
    """The latest request for the page."""

    created_at: datetime
    """When the page was first asked for."""

    updated_at: datetime
    """When its record last changed."""


class PendingPage(_Page):
    """A page without a result yet: ask again after `Retry-After` seconds."""

    status: Literal[PageStatus.QUEUED, PageStatus.IN_PROGRESS, PageStatus.FAILED_RETRYABLE]
    """Waiting for a worker, being fetched, or to be fetched again after a failure."""

    error: PageError | None
    """Why the latest attempt failed, or null."""


class _EndedPage(_Page):
    """What every answer about a page with a result has, be it good or bad."""

    checked_at: datetime | None
    """When the result was stored or last confirmed. Null if that was by version 0.1.0."""

    stale: bool
    """Whether that is longer ago than the `max_age` of this call. False without `max_age`."""

    refresh: Refresh | None
    """A refresh of the page that is to come, under way or failed, or null. The page stays as it is
    until a refresh succeeds."""


class _WholeMetadata(_Schema):
    metadata: PageMetadata


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]  # a field that is missing is not null: nobody asked for it


def _part_of(
    whole: type, name: str, about: str, names: Container[str], **other_types: Any
) -> type[BaseModel]:
    """Return a schema with some fields of a dataclass, of which each may be missing."""
    described = _WholeMetadata.model_json_schema()["$defs"][whole.__name__]["properties"]
    types = get_type_hints(whole) | other_types
    fields: dict[str, Any] = {
        name: (
            kind,
            Field(
                default=None,
                description=described[name]["description"],
                json_schema_extra=_without_default,
            ),
        )
        for name, kind in types.items()
        if name in names
    }
    return create_model(name, __base__=_Schema, __doc__=about, **fields)


SelectedMetadata = _part_of(
    PageMetadata, "SelectedMetadata", "The fields that were asked for.", METADATA_FIELDS
)

ListedDocument = _part_of(
    Document,
    "ListedDocument",
    "What an HTML page says about itself, less `open_graph` and `json_ld`.",
    SUMMARY_FIELDS,
)

ListedMetadata = _part_of(
    PageMetadata,
    "ListedMetadata",
    "What the server sent, less `page_source`.",
    LISTED_FIELDS,
    document=ListedDocument | None,
)


class CompletedPage(_EndedPage):
    """A page as its server sent it."""

    status: Literal[PageStatus.COMPLETED]
    """The page was fetched."""

    metadata: PageMetadata | SelectedMetadata  # type: ignore[valid-type]  # made from PageMetadata
    """What its server sent."""


class FailedPage(_EndedPage):
    """A page that could not be fetched."""

    status: Literal[PageStatus.FAILED_PERMANENT]
    """The page failed and will not be tried again."""

    error: PageError
    """Why it failed."""

    metadata: PageMetadata | SelectedMetadata | None  # type: ignore[valid-type]  # as above
    """The last response, or null if there was none."""


Page = CompletedPage | FailedPage | PendingPage

Answer = TypeVar("Answer", bound=BaseModel)

_ANSWERS: dict[PageStatus | str, type[CompletedPage | FailedPage | PendingPage]] = {
    PageStatus.COMPLETED: CompletedPage,
    PageStatus.FAILED_PERMANENT: FailedPage,
}


class ListedCompletedPage(CompletedPage):
    """A page of the list that was fetched."""

    metadata: ListedMetadata  # type: ignore[valid-type]  # made from PageMetadata
    """What its server sent."""


class ListedFailedPage(FailedPage):
    """A page of the list that could not be fetched."""

    metadata: ListedMetadata | None  # type: ignore[valid-type]  # as above
    """The last response, or null if there was none."""


ListedPage = ListedCompletedPage | ListedFailedPage | PendingPage

_ENTRIES: dict[PageStatus | str, type[ListedCompletedPage | ListedFailedPage | PendingPage]] = {
    PageStatus.COMPLETED: ListedCompletedPage,
    PageStatus.FAILED_PERMANENT: ListedFailedPage,
}


class PageListAnswer(_Schema):
    """Some pages of the inventory, newest first."""

    items: list[ListedPage]
    """There may be fewer than were asked for although more follow."""

    next: str | None
    """Where the list goes on: the `cursor` of the next call. Null if nothing follows."""


def page_answer(record: PageRecord) -> Page:
    """Return the answer that fits the record's status.

    The record was checked when it was read, so it is not checked again.
    """
    answer = _ANSWERS.get(record.status, PendingPage)
    return _filled(answer, record, lambda values: SelectedMetadata.model_construct(**values))


def listed_page(record: PageRecord) -> ListedPage:
    """Return the entry of a list for a record that was read for it."""
    return _filled(_ENTRIES.get(record.status, PendingPage), record, _listed_metadata)


def _listed_metadata(values: Mapping[str, Any]) -> BaseModel:
    document = values.get("document")
    listed = {"document": ListedDocument.model_construct(**document)} if document else {}
    return ListedMetadata.model_construct(**{**values, **listed})


def _filled(
    answer: type[Answer], record: PageRecord, metadata_of: Callable[[Mapping[str, Any]], BaseModel]
) -> Answer:
    values = {name: getattr(record, name) for name in answer.model_fields}
    if record.selected is not None and "metadata" in values:
        values["metadata"] = metadata_of(record.selected)
    return answer.model_construct(**values)


def page_json(record: PageRecord) -> bytes:
    """Return the answer about a page as JSON, less the fields that nobody asked for."""
    return page_answer(record).model_dump_json(exclude_unset=True).encode()


class BatchRequest(_Schema):
    """The body of `POST /metadata/batch`."""

    urls: Annotated[list[str], FailFast()] = Field(
        min_length=1, max_length=1000, examples=[["https://example.com/"]]
    )
    """The URLs of the pages to ask for, as in `POST /metadata`. One that cannot be taken has a
    problem in the answer. One may be there twice: both then have the same result."""

    max_age: MaxAge = Field(default=None, strict=True, **MAX_AGE)


class BatchResult(_Schema):
    """What became of one URL of a batch."""

    url: str
    """The URL in its canonical form."""

    status: PageStatus | str
    """`QUEUED`, or that of the page if it need not be fetched again."""

    request_id: UUID | None
    """The request that was queued, or the latest one for a page that need not be fetched."""


class BatchProblem(_Schema):
    """Why one URL of a batch was not taken."""

    url: str
    """The URL as it was sent, at most its first 2083 characters."""

    problem: "Problem"
    """What went wrong, as `POST /metadata` would have answered it."""


class BatchAnswer(_Schema):
    """What became of each URL of a batch."""

    items: list[BatchResult | BatchProblem]
    """One for each URL, in their order."""


class RequestState(_Schema):
    """What became of one request."""

    status: PageStatus | str
    """How far the fetch that answers the request has come. It has ended if this is `COMPLETED` or
    `FAILED_PERMANENT`; for a refresh that failed the page itself is `COMPLETED` still."""

    url: str
    """The URL in its canonical form."""

    request_id: UUID
    """The request."""

    attempts: int
    """Attempts made at that fetch."""

    error: PageError | None
    """Why its latest attempt failed, or null."""

    answered_by: UUID | None
    """The request that the fetch was made for: another one if requests shared it, and null while no
    fetch has begun."""

    @staticmethod
    def of(record: RequestRecord) -> "RequestState":
        """Return the answer to a call for this request."""
        names = RequestState.model_fields
        return RequestState.model_construct(**{name: getattr(record, name) for name in names})


class Health(_Schema):
    """The answer of the health endpoints when all is well."""

    status: Literal["ok", "ready"]
    """`ok` if the process is alive, `ready` if it can do its work."""


class NotReady(_Schema):
    """The answer of `GET /health/ready` while the service cannot do its work."""

    status: Literal["not_ready"] = "not_ready"
    """Always `not_ready`."""

    reason: str
    """What is missing, for a person to read."""


class Problem(_Schema):
    """An error as problem details (RFC 9457)."""

    type: str
    """Identifies the kind of problem. Compare it as a whole, do not parse it."""

    title: str
    """The kind of problem in words."""

    status: int
    """The HTTP status of the answer."""

    detail: str
    """What went wrong this time, and what to do about it."""

    errors: list[dict[str, str]] | None = None
    """For an invalid request: which `field` is wrong, and a `message` that says why."""
