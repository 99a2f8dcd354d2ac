"""The message contract: what travels through the queues."""

from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.models import PageRequest
from app.urls import MAX_URL_LENGTH, canonical_or_none

CONTENT_TYPE = "application/json"
MESSAGE_TYPE = "MetadataRequested"
MAX_ATTEMPT = 2**31 - 1
DEFERRALS_HEADER = "x-deferrals"
"""How often a message was deferred without using up an attempt."""

CANONICAL_URL = r"^https?://[^\s/?#@]+/[^\s#]*$"
"""What every canonical URL looks like. `app/urls.py` has the whole rule."""


class MetadataRequested(BaseModel):
    """Somebody asked for the metadata of a page.

    Fields that are not listed here are ignored.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    url: str = Field(
        title="Page URL",
        min_length=1,
        max_length=MAX_URL_LENGTH,
        examples=["https://example.com/", "https://example.com/search?q=a%20b"],
        # Published for others, not checked here: a URL that is not fetched ends as an error in the
        # page's record, which says more than a dead letter.
        json_schema_extra={"pattern": CANONICAL_URL},
    )
    """The page, as a canonical absolute URL: scheme and host in lower case, the host IDNA-encoded,
    no default port, no credentials, no fragment, and a path of at least `/`. The page is stored
    and found under exactly this text."""

    request_id: UUID = Field(title="Request ID", examples=["6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11"])
    """Identifies the request in logs, records and retries. Choose a random one for each request."""

    requested_at: AwareDatetime = Field(
        title="Time of the request", examples=["2026-01-01T00:00:00Z"]
    )
    """When the page was asked for, with the offset from UTC. For people to read: what becomes of
    the request does not depend on it."""

    attempt: int = Field(1, title="Attempt", ge=1, le=MAX_ATTEMPT, examples=[1])
    """The number of the fetch that this message asks for: 1 in a new request."""

    @staticmethod
    def from_request(request: PageRequest) -> "MetadataRequested":
        """Return the message for a request."""
        return MetadataRequested(
            url=request.url,
            request_id=request.request_id,
            requested_at=request.requested_at,
            attempt=request.attempt,
        )

    def to_request(self) -> PageRequest:
        """Return the request the message carries, under the canonical spelling of its URL.

        An older version may have sent it under another one. A URL that is none stays as it is: the
        fetcher refuses it, and the record says why.
        """
        url = canonical_or_none(self.url) or self.url
        return PageRequest(url, self.request_id, self.requested_at, self.attempt)
