"""The page record and everything that is said about one: frozen values, no I/O.

Times are aware `datetime`s in UTC, durations are seconds unless a name says otherwise.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class PageStatus(StrEnum):
    """How far the inventory has come with a page."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED_RETRYABLE = "FAILED_RETRYABLE"
    FAILED_PERMANENT = "FAILED_PERMANENT"


class ErrorKind(StrEnum):
    """Why a page could not be collected; the values are part of the HTTP contract."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    HTTP_STATUS = "http_status"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BLOCKED_ADDRESS = "blocked_address"
    INVALID_RESPONSE = "invalid_response"
    NOT_STORABLE = "not_storable"
    ROBOTS = "robots"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One wish to have a page collected; `attempt` counts from 1."""

    url: str
    request_id: UUID
    requested_at: datetime
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request as the queue handed it over.

    `redelivered`: the broker has delivered this message before and got no acknowledgement, so
    the worker that had it has died or lost its connection. `deferrals`: how often the message
    was put off with its attempt unused (database away, host busy, page being fetched).
    """

    request: PageRequest
    redelivered: bool = False
    deferrals: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """A response header as sent, duplicates and order kept (HAR 1.2, `headers`)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Cookie:
    """A `Set-Cookie` as sent (HAR 1.2, `cookies`); `max_age` is in seconds."""

    name: str
    value: str
    domain: str | None = None
    path: str | None = None
    expires: datetime | None = None
    max_age: int | None = None
    secure: bool = False
    http_only: bool = False
    same_site: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """One hop on the way to the final page; `location` is the header as sent."""

    url: str
    status_code: int
    location: str


@dataclass(frozen=True, slots=True)
class PageMetadata:
    """What a server sent for a page.

    `page_source` is the decoded text, or None where the body is not text. `body_bytes` and
    `body_sha256` describe the body after content decoding, as far as it was read.
    """

    final_url: str
    status_code: int
    http_version: str
    headers: tuple[Header, ...]
    cookies: tuple[Cookie, ...]
    page_source: str | None
    page_source_truncated: bool
    content_type: str | None
    charset: str | None
    body_bytes: int
    body_sha256: str
    redirects: tuple[Redirect, ...]
    remote_address: str | None
    elapsed_ms: float
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class PageError:
    """The last thing that went wrong with a page, in words for the person who asked for it.

    A record written by a newer version may have a kind that this version does not know: it is
    kept as text.
    """

    kind: ErrorKind | str
    message: str


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page as the inventory knows it.

    `status` is text where a newer version wrote a status that this version does not know.
    `has_stalled`: the page has not ended and nobody seems to be at work on it. The database
    decides that by its own clock; `lease_expires_at` is for writing back only, never to be
    compared with the clock of this process.
    """

    url: str
    status: PageStatus | str
    metadata: PageMetadata | None
    error: PageError | None
    attempts: int
    request_id: UUID | None
    created_at: datetime
    updated_at: datetime
    lease_expires_at: datetime | None = None
    has_stalled: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the page has a result, good or bad."""
        return self.status in (PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one attempt at a page; `token` is unique to it.

    Another claim on the page makes it void: writes made under a void claim change nothing.
    `refreshes`: the page already has a result, which stays readable until a newer one is stored.
    `lost_alone`: the worker that made this very attempt before died while it fetched this page
    and no other, so the page is what killed it. The attempt counts as failed.
    """

    url: str
    request_id: UUID
    attempt: int
    refreshes: bool
    token: UUID
    lost_alone: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """The page is being fetched for another request, by a fetch that may be older than this one."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The page was stored; `status` is what the database answered to the write."""

    status: PageStatus


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The attempt failed in a way that may pass: ask again after `delay_seconds`."""

    request: PageRequest
    error: PageError
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class FailedPermanently:
    """The page failed for good; `status` is what the database answered to the write."""

    error: PageError
    status: PageStatus


@dataclass(frozen=True, slots=True)
class Coalesced:
    """Nothing was fetched: a fetch that began after this request has answered it, or will."""

    reason: str


@dataclass(frozen=True, slots=True)
class PutOff:
    """Nothing was decided: deliver the same request again after `delay_seconds`.

    `deferrals` counts how often that has happened to it, this time included.
    """

    request: PageRequest
    reason: str
    delay_seconds: float
    deferrals: int


Outcome = Completed | RetryLater | FailedPermanently | Coalesced | PutOff
