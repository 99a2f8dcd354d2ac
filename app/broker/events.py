"""The events that the service publishes: what listeners receive.

A message is one CloudEvent (https://github.com/cloudevents/spec, version 1.0.2) in structured JSON.
"""

from typing import Literal
from urllib.parse import quote
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.models import ENDED_STATUSES, EventKind, PageError, PageEvent, PageStatus

CONTENT_TYPE = "application/cloudevents+json"
SOURCE: Literal["urn:page-metadata"] = "urn:page-metadata"


def routing_key(kind: EventKind) -> str:
    """Return the routing key of an event."""
    return f"page.{kind}"


def event_type(kind: EventKind) -> str:
    """Return the `type` of an event, which names the version of its `data`."""
    return f"page-metadata.page.{kind}.v1"


def kind_in(text: str) -> str:
    """Return the kind in the `type` of an event, which a newer version may have published."""
    return text.removeprefix("page-metadata.page.").removesuffix(".v1")


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class EventError(_Payload):
    """Why a page could not be fetched."""

    kind: str = Field(examples=["timeout"])
    """The kind of error, for programs to compare. Newer versions of the service may have others."""

    message: str = Field(examples=["no answer in time"])
    """What happened, for a person to read."""


class EventData(_Payload):
    """What has happened to the page, in short. The page itself is read over HTTP, at `href`.

    The fields from `final_url` to `fetched_at` are those of the page that was fetched or confirmed,
    or of the last response of a page that failed. They are null if there was none.
    """

    url: str = Field(examples=["https://example.com/"])
    """The page, in its canonical form."""

    request_id: UUID | None = Field(examples=["6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11"])
    """The request that the page was fetched for. Null for a deletion."""

    status: str = Field(
        examples=["COMPLETED"],
        json_schema_extra={"enum": [*ENDED_STATUSES, PageStatus.DELETED]},
    )
    """What the request ended with, or `DELETED`."""

    attempts: int = Field(ge=0, examples=[1])
    """The fetches made for the request."""

    final_url: str | None = Field(examples=["https://example.com/"])
    """The URL of the page after all redirects."""

    status_code: int | None = Field(examples=[200])
    """The HTTP status of the response."""

    content_type: str | None = Field(examples=["text/html"])
    """The media type without its parameters."""

    title: str | None = Field(examples=["Example Domain"])
    """The title of the page, if it was read (`metadata.document.title`)."""

    body_sha256: str | None = Field(examples=["9f" * 32])
    """The SHA-256 of the body, in hexadecimal."""

    previous_body_sha256: str | None = Field(examples=["0a" * 32])
    """The same of the result that the page had before. Null if it had none."""

    fetched_at: AwareDatetime | None = Field(examples=["2026-01-01T00:00:00Z"])
    """When the fetch started that brought the body."""

    checked_at: AwareDatetime | None = Field(examples=["2026-01-01T00:00:00.250000Z"])
    """When the result was stored or confirmed, by the clock of the worker. Null if the page was
    deleted, or if it failed and keeps the result it had."""

    error: EventError | None
    """Why the page could not be fetched. Null unless it failed."""

    href: str = Field(examples=["/metadata?url=https%3A%2F%2Fexample.com%2F"])
    """Where the API has the page, relative to the API's address."""


class PageEventMessage(_Payload):
    """Something has happened to a page. A CloudEvent, version 1.0.

    Fields that are not listed here are to be ignored: newer versions may add some.
    """

    specversion: Literal["1.0"]
    """The version of CloudEvents."""

    id: UUID = Field(examples=["0b7e5e0e-53a5-4f6a-8f2c-4c4b1f6f5a10"])
    """Identifies what has happened. An event may arrive more than once, always with the same id."""

    source: Literal["urn:page-metadata"]
    """Who tells it."""

    type: str = Field(
        examples=["page-metadata.page.completed.v1"],
        json_schema_extra={"enum": [event_type(kind) for kind in EventKind]},
    )
    """What has happened, and the version of `data`."""

    subject: str = Field(examples=["https://example.com/"])
    """The page, in its canonical form."""

    time: AwareDatetime = Field(examples=["2026-01-01T00:00:00.250000Z"])
    """When it happened. Events may arrive in another order. Of two events of one page the one with
    the later time is the later one, as far as the clocks of the service agree."""

    datacontenttype: Literal["application/json"]
    """The media type of `data`."""

    data: EventData

    @staticmethod
    def of(event: PageEvent) -> "PageEventMessage":
        """Return the message for an event."""
        return PageEventMessage.model_construct(
            specversion="1.0",
            id=event.event_id,
            source=SOURCE,
            type=event_type(event.kind),
            subject=event.url,
            time=event.time,
            datacontenttype="application/json",
            data=_data(event),
        )


def _data(event: PageEvent) -> EventData:
    return EventData.model_construct(
        url=event.url,
        request_id=event.request_id,
        status=event.status,
        attempts=event.attempts,
        final_url=event.final_url,
        status_code=event.status_code,
        content_type=event.content_type,
        title=event.title,
        body_sha256=event.body_sha256,
        previous_body_sha256=event.previous_body_sha256,
        fetched_at=event.fetched_at,
        checked_at=event.checked_at,
        error=_error(event.error) if event.error else None,
        href=f"/metadata?url={quote(event.url, safe='')}",
    )


def _error(error: PageError) -> EventError:
    return EventError.model_construct(kind=error.kind, message=error.message)
