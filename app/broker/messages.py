"""The message contract: what travels through the queues."""

from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.models import PageRequest
from app.urls import MAX_URL_LENGTH

CONTENT_TYPE = "application/json"
MESSAGE_TYPE = "MetadataRequested"
MAX_ATTEMPT = 2**31 - 1
DEFERRALS_HEADER = "x-deferrals"
"""How often a message was put off, attempt unused: no database, or no place at its host."""


CANONICAL_URL = r"^https?://[^\s/?#@]+/[^\s#]*$"
"""What every canonical URL looks like; `app/urls.py` has the whole rule."""


class MetadataRequested(BaseModel):
    """Somebody asked for the metadata of a page.

    Fields that are not listed here are ignored.
    """

    model_config = ConfigDict(frozen=True)

    url: str = Field(
        title="Page URL",
        min_length=1,
        max_length=MAX_URL_LENGTH,
        description=(
            "The page, as a canonical absolute URL: scheme and host in lower case, the host "
            "IDNA-encoded, no default port, no credentials, no fragment, and at least `/` for a "
            "path. The page is kept under exactly this text, and found again under no other."
        ),
        examples=["https://example.com/", "https://example.com/search?q=a%20b"],
        json_schema_extra={"pattern": CANONICAL_URL},
    )
    request_id: UUID = Field(
        title="Request ID",
        description="Names the request in logs, records and retries. Choose a random one for each.",
        examples=["6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11"],
    )
    requested_at: AwareDatetime = Field(
        title="Time of the request",
        description=(
            "When the page was asked for, with its offset from UTC. "
            "A fetch that started later answers the request, and nothing is fetched again for it."
        ),
        examples=["2026-01-01T00:00:00Z"],
    )
    attempt: int = Field(
        1,
        title="Attempt",
        ge=1,
        le=MAX_ATTEMPT,
        description="The number of the fetch that this message asks for: 1 in a new request.",
        examples=[1],
    )

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
        """Return the request the message carries."""
        return PageRequest(self.url, self.request_id, self.requested_at, self.attempt)
