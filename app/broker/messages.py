"""The message contract: what travels through the queues."""

from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.models import PageRequest
from app.urls import MAX_URL_LENGTH

CONTENT_TYPE = "application/json"
MESSAGE_TYPE = "MetadataRequested"
DEFERRALS_HEADER = "x-deferrals"
"""How often a message was put off, attempt unused, because the database did not answer."""


class MetadataRequested(BaseModel):
    """Somebody asked for the metadata of a page."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "url": "https://example.com/",
                    "request_id": "6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11",
                    "requested_at": "2026-01-01T00:00:00Z",
                    "attempt": 1,
                }
            ]
        },
    )

    url: str = Field(
        min_length=1,
        max_length=MAX_URL_LENGTH,
        description="The page, as a canonical http or https URL",
    )
    request_id: UUID = Field(description="Names the request in logs, records and retries")
    requested_at: AwareDatetime = Field(
        description="When it was asked for, in UTC; a later fetch of the page answers it"
    )
    attempt: int = Field(1, ge=1, description="Number of the fetch this message asks for, from 1")

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
