"""What HTTP callers send and receive."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.models import PageError, PageMetadata, PageRecord, PageRequest, PageStatus
from app.urls import MAX_URL_LENGTH

_HOST = r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"
_PORT = r":(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})"

PAGE_URL: dict[str, Any] = {
    "title": "Page URL",
    "description": (
        "An absolute http or https URL without credentials. It is made canonical, and answers "
        "name the page by that. Host names outside ASCII and IPv6 addresses are taken as well."
    ),
    "examples": ["https://example.com/"],
    "json_schema_extra": {
        "maxLength": MAX_URL_LENGTH,
        "pattern": f"^[Hh][Tt][Tt][Pp][Ss]?://{_HOST}({_PORT})?(/[!-~]*)?$",
    },
}
"""What callers may rely on. It is checked by `app/urls.py`, which can say what is wrong."""


class MetadataRequest(BaseModel):
    """The body of `POST /metadata`."""

    url: str = Field(**PAGE_URL)


class QueuedAnswer(BaseModel):
    """A request was queued."""

    status: Literal[PageStatus.QUEUED] = Field(PageStatus.QUEUED, description="How far it is")
    url: str = Field(description="The URL in its canonical form")
    request_id: UUID = Field(description="Names this request in the logs")

    @staticmethod
    def of(request: PageRequest) -> "QueuedAnswer":
        """Return the answer to a request that was just queued."""
        return QueuedAnswer(url=request.url, request_id=request.request_id)


class _Page(BaseModel):
    """What every answer about a page says."""

    status: PageStatus
    url: str = Field(description="The URL in its canonical form")
    attempts: int = Field(description="Fetches made for the latest request")
    request_id: UUID | None = Field(description="The latest request")
    created_at: datetime = Field(description="When the page was first asked for")
    updated_at: datetime = Field(description="When its record last changed")


class PendingPage(_Page):
    """A page that is not there yet: ask again after `Retry-After` seconds."""

    status: Literal[PageStatus.QUEUED, PageStatus.IN_PROGRESS, PageStatus.FAILED_RETRYABLE] = Field(
        description="How far it is"
    )
    error: PageError | None = Field(description="What went wrong last, if anything did")


class CompletedPage(_Page):
    """A page as its server sent it."""

    status: Literal[PageStatus.COMPLETED] = Field(description="It is here")
    metadata: PageMetadata = Field(description="What its server sent")


class FailedPage(_Page):
    """A page that could not be had; `metadata` is the last response, if there was one."""

    status: Literal[PageStatus.FAILED_PERMANENT] = Field(description="It will not be tried again")
    error: PageError = Field(description="Why")
    metadata: PageMetadata | None = Field(description="The last response, if there was one")


Page = CompletedPage | FailedPage | PendingPage

_ANSWERS: dict[PageStatus | str, type[CompletedPage | FailedPage | PendingPage]] = {
    PageStatus.COMPLETED: CompletedPage,
    PageStatus.FAILED_PERMANENT: FailedPage,
}


def page_answer(record: PageRecord) -> Page:
    """Return the answer that fits the record's status.

    The record was checked when it was read; it is not checked again.
    """
    answer = _ANSWERS.get(record.status, PendingPage)
    return answer.model_construct(**{name: getattr(record, name) for name in answer.model_fields})


class Health(BaseModel):
    """The answer of the health endpoints."""

    status: Literal["ok", "ready"] = Field(description="All is well")


class NotReady(BaseModel):
    """The answer of `GET /health/ready` while the service can't do its work."""

    status: Literal["not_ready"] = Field("not_ready", description="Something is missing")
    reason: str = Field(description="What is missing, for a person")


class Problem(BaseModel):
    """An error as problem details (RFC 9457)."""

    type: str = Field(description="Names the kind of problem; compare it, do not parse it")
    title: str = Field(description="The same in words")
    status: int = Field(description="The status of the answer")
    detail: str = Field(description="What went wrong this time, and what to do about it")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="For an invalid request: where (`field`) and why (`message`)"
    )
