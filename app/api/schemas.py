"""What HTTP callers send and receive."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.models import PageError, PageMetadata, PageRecord, PageRequest, PageStatus


class MetadataRequest(BaseModel):
    """The body of `POST /metadata`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"url": "https://example.com/"}]})

    url: str = Field(description="An absolute http or https URL of at most 2083 characters")


class QueuedAnswer(BaseModel):
    """A request was queued."""

    status: Literal[PageStatus.QUEUED] = PageStatus.QUEUED
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
    created_at: datetime
    updated_at: datetime


class PendingPage(_Page):
    """A page that is not there yet: ask again after `Retry-After` seconds."""

    status: Literal[PageStatus.QUEUED, PageStatus.IN_PROGRESS, PageStatus.FAILED_RETRYABLE]
    error: PageError | None = Field(description="What went wrong last, if anything did")


class CompletedPage(_Page):
    """A page as its server sent it."""

    status: Literal[PageStatus.COMPLETED]
    metadata: PageMetadata


class FailedPage(_Page):
    """A page that could not be had; `metadata` is the last response, if there was one."""

    status: Literal[PageStatus.FAILED_PERMANENT]
    error: PageError
    metadata: PageMetadata | None


Page = CompletedPage | FailedPage | PendingPage

_ANSWERS: dict[PageStatus, type[CompletedPage | FailedPage | PendingPage]] = {
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

    status: Literal["ok", "ready"]


class NotReady(BaseModel):
    """The answer of `GET /health/ready` while the service can't do its work."""

    status: Literal["not_ready"] = "not_ready"
    reason: str


class Problem(BaseModel):
    """An error as problem details (RFC 9457)."""

    type: str = Field(description="Names the kind of problem; compare it, do not parse it")
    title: str
    status: int
    detail: str = Field(description="What went wrong this time, and what to do about it")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="For an invalid request: where (`field`) and why (`message`)"
    )
