"""The page record and everything that is said about one: frozen values, no I/O.

Times are aware `datetime`s in UTC, durations are seconds unless a name says otherwise. The string
below a field documents it; for the values that callers see, it is the text of the OpenAPI document.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, get_args
from uuid import UUID


class PageStatus(StrEnum):
    """How far the inventory has come with a page."""

    QUEUED = "QUEUED"
    """It waits for a worker."""

    IN_PROGRESS = "IN_PROGRESS"
    """A worker fetches it."""

    COMPLETED = "COMPLETED"
    """The record has what its server sent. It stays so while the page is fetched again."""

    FAILED_RETRYABLE = "FAILED_RETRYABLE"
    """The last attempt failed, and another one will be made."""

    FAILED_PERMANENT = "FAILED_PERMANENT"
    """No further attempt will be made, unless the page is asked for again."""

    DELETED = "DELETED"
    """The page was deleted. Only requests and events have this status: to whoever asks for the page
    it is unknown."""


ListedStatus = Literal[
    PageStatus.QUEUED,
    PageStatus.IN_PROGRESS,
    PageStatus.COMPLETED,
    PageStatus.FAILED_RETRYABLE,
    PageStatus.FAILED_PERMANENT,
]

LISTED_STATUSES = frozenset[PageStatus](get_args(ListedStatus))
"""Those of the pages that are known."""

ENDED_STATUSES = (PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT)
"""Those of a page that has a result, good or bad."""


class ErrorKind(StrEnum):
    """Why a page could not be collected; the values are part of the HTTP contract."""

    DNS = "dns"
    """The host name could not be resolved, or leads to an address that is not fetched."""

    CONNECT = "connect"
    """The connection was refused or lost."""

    TLS = "tls"
    """The certificate does not verify, or TLS failed."""

    TIMEOUT = "timeout"
    """The connection was not made, or the page did not arrive, in time."""

    HTTP_STATUS = "http_status"
    """The server answered a status that says to try again later."""

    TOO_MANY_REDIRECTS = "too_many_redirects"
    """There are more redirects on the way to the page than are followed."""

    BLOCKED_ADDRESS = "blocked_address"
    """The URL, or one it redirects to, is not fetched: for its address, port, scheme or form."""

    INVALID_RESPONSE = "invalid_response"
    """The answer is not HTTP, exceeds a limit, redirects to what is no URL, or is 304 to a request
    without validators."""

    NOT_STORABLE = "not_storable"
    """The database cannot keep the page, for example because it is over 16 MB."""

    ROBOTS = "robots"
    """The host's robots.txt disallows the page, or its server failed to send it."""

    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    """Every attempt ended without a result, because the worker was lost."""

    INTERNAL = "internal"
    """Something unforeseen happened in the service, or a worker died fetching this page alone."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One request to collect a page."""

    url: str
    """The page, in its canonical form."""

    request_id: UUID
    """The same in every retry of the request."""

    requested_at: datetime

    attempt: int = 1
    """The number of the fetch that is asked for, from 1."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request as the queue handed it over."""

    request: PageRequest

    redelivered: bool = False
    """Whether the broker has delivered the message before and got no acknowledgement, so the worker
    that had it has died or lost its connection."""

    deferrals: int = 0
    """How often the message was deferred without using up an attempt: the database could not be
    reached, the host was busy, or the page was being fetched."""


@dataclass(frozen=True, slots=True)
class Header:
    """A response header (HAR 1.2, `headers`)."""

    name: str
    """The name in lower case."""

    value: str
    """The value as sent, or empty where the operator has it left out."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie parsed from `Set-Cookie` (HAR 1.2, `cookies`)."""

    name: str
    """The name, empty for a cookie that has only a value."""

    value: str
    """The value, or empty where the operator has it left out."""

    domain: str | None = None
    """Where the cookie is valid: the `Domain` attribute, or else the host that set it."""

    path: str | None = None
    """Where the cookie is valid: the `Path` attribute, or else the default of RFC 6265, 5.1.4."""

    expires: datetime | None = None
    """The `Expires` attribute, or null if there is none that can be read."""

    max_age: int | None = None
    """The `Max-Age` attribute in seconds, or null if there is none that can be read."""

    secure: bool = False
    """Whether the cookie is for https only."""

    http_only: bool = False
    """Whether the cookie is hidden from scripts."""

    same_site: str | None = None
    """The `SameSite` attribute, such as `Lax`, or null if there is none."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """One redirect on the way to the page."""

    url: str
    """The URL that was asked for."""

    status_code: int
    """The status of the answer, such as 301."""

    location: str
    """The `Location` header as sent, or empty where the operator has it left out."""


@dataclass(frozen=True, slots=True)
class PageImage:
    """The image that stands for a page, for example in a link preview."""

    url: str
    """Where the image is."""

    alt: str | None = None
    """What the image shows, in words, or null if the page does not say."""

    width: int | None = None
    """The width in pixels that the page states, or null."""

    height: int | None = None
    """The height in pixels that the page states, or null."""


@dataclass(frozen=True, slots=True)
class PageIcon:
    """An icon that a page offers."""

    url: str
    """Where the icon is."""

    sizes: str | None
    """The `sizes` attribute, such as `32x32` or `any`, or null if there is none."""

    type: str | None
    """The media type that the page states, or null."""

    rel: str
    """What the icon is offered as, such as `icon` or `apple-touch-icon`."""


@dataclass(frozen=True, slots=True)
class LinkedResource:
    """Something that a page links to from its head: a feed, or its oEmbed description."""

    url: str
    """Where it is."""

    type: str
    """Its media type, such as `application/rss+xml`."""

    title: str | None
    """What the page calls it, or null."""


@dataclass(frozen=True, slots=True)
class AlternatePage:
    """The same page in another language."""

    url: str
    """Where it is."""

    language: str
    """Its language as the page states it, such as `de-AT`, or `x-default`."""


@dataclass(frozen=True, slots=True)
class Document:
    """What an HTML page says about itself. All URLs are absolute."""

    title: str | None
    """The title of the page."""

    description: str | None
    """What the page is about, in a sentence or two."""

    site_name: str | None
    """The name of the site that the page belongs to, without its tagline."""

    type: str | None
    """The kind of page in the words of Open Graph, such as `article` or `website`."""

    language: str | None
    """The language of the page as a BCP 47 tag, such as `en` or `pt-BR`."""

    canonical_url: str | None
    """The address that the page calls its own, in canonical form. Null if it names none."""

    image: PageImage | None
    """The image that stands for the page."""

    icon: PageIcon | None
    """The best of `icons`: one that scales, or else the largest."""

    icons: tuple[PageIcon, ...]
    """The icons that the page offers, in order."""

    theme_color: str | None
    """The colour that the page asks browsers to surround it with, as written."""

    author: str | None
    """Who wrote the page; several names are separated by `, `."""

    published_at: datetime | None
    """When the page was published, in UTC. Null if there is no date, or none that can be read."""

    modified_at: datetime | None
    """When the page last changed, in UTC. Null if there is no date, or none that can be read."""

    feeds: tuple[LinkedResource, ...]
    """The feeds (RSS, Atom, JSON) that the page links to."""

    oembed: tuple[LinkedResource, ...]
    """The oEmbed descriptions that the page links to."""

    alternates: tuple[AlternatePage, ...]
    """The same page in other languages (`hreflang`)."""

    robots: tuple[str, ...]
    """What the page asks of robots, such as `noindex`: the directives of its `robots` meta elements
    and of the `X-Robots-Tag` headers, in lower case, without duplicates."""

    open_graph: dict[str, tuple[str, ...]]
    """The Open Graph properties (`og:…`), each with its values in order."""

    twitter: dict[str, str]
    """The Twitter Card properties (`twitter:…`), each with its first value."""

    json_ld: tuple[dict[str, Any], ...]
    """The JSON-LD objects of the page, as far as they can be parsed."""

    extractor_version: int
    """The version of the rules that read the page."""

    truncated: bool
    """Whether something above was left out or cut short because the page holds more than is
    kept."""


@dataclass(frozen=True, slots=True)
class PageMetadata:
    """What a server sent for a page."""

    final_url: str
    """The URL of the page after all redirects."""

    status_code: int
    """The HTTP status of the response."""

    http_version: str
    """The version of HTTP, such as `HTTP/1.1`."""

    headers: tuple[Header, ...]
    """The response headers in order, with duplicates."""

    cookies: tuple[Cookie, ...]
    """The cookies that were set on the way, redirects included, in order, with duplicates."""

    page_source: str | None
    """The body as text, or null if it is not text, or if the operator keeps no sources."""

    page_source_truncated: bool
    """True if the body was cut, by the limit or because the rest could not be decoded."""

    content_type: str | None
    """The media type without its parameters, or null if there is none."""

    charset: str | None
    """The encoding that the text was decoded from, or null if the body is not text."""

    body_bytes: int
    """The size of the body after content decoding, as far as it was read."""

    body_sha256: str
    """The SHA-256 of those bytes, in hexadecimal."""

    redirects: tuple[Redirect, ...]
    """The redirects on the way to the page, in order."""

    remote_address: str | None
    """The IP address that answered."""

    elapsed_ms: float
    """Milliseconds that the fetch took, redirects included."""

    fetched_at: datetime
    """When the fetch started."""

    document: Document | None = None
    """What the page says about itself, or null if it is not HTML or was not read."""


METADATA_FIELDS = frozenset(field.name for field in fields(PageMetadata))
"""The names of all fields of a page's metadata, for whoever reads only some of them."""


LISTED_FIELDS = METADATA_FIELDS - {"page_source"}
"""Those that a list of pages shows."""


MAX_INLINE_SOURCE_BYTES = 65_536
"""A larger page source is left out when its record is read, and its size told instead. It is read
by itself, and sent piece by piece."""

SUMMARY_FIELDS = frozenset(field.name for field in fields(Document)) - {"open_graph", "json_ld"}
"""The fields of a document that a list of pages shows. The others may be long."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server gave with a page so that it can be asked whether the page has changed.

    At least one of `etag` and `last_modified` is there (RFC 9110, 8.8).
    """

    url: str
    """The URL whose answer had them. They mean nothing for another URL."""

    etag: str | None
    """The `ETag` header as sent, weak (`W/"…"`) or strong."""

    last_modified: str | None
    """The `Last-Modified` header as sent."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The server answered 304: the page is still the one that gave the validators."""

    elapsed_ms: float
    """Milliseconds that the fetch took, redirects included."""

    status_code: int = 304

    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PageError:
    """What went wrong last with a page."""

    kind: ErrorKind | str
    """The kind of error, for programs to compare. Newer versions of the service may have others."""

    message: str
    """What happened, for a person to read."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """A fetch of a page that has a result already, which stays until a newer one is stored."""

    status: PageStatus
    """`QUEUED`, `IN_PROGRESS`, `FAILED_RETRYABLE` while another attempt is to come, or
    `FAILED_PERMANENT` if none is. A refresh that has succeeded is not shown."""

    request_id: UUID | None
    """The request for the refresh, or the first of several that are waiting."""

    requested_at: datetime | None
    """When the refresh was asked for, or null for one that began in version 0.1.0."""

    attempts: int
    """Fetches made for the refresh so far."""

    error: PageError | None
    """Why the latest attempt failed, or null."""

    @property
    def is_pending(self) -> bool:
        """Whether the refresh is still to be made."""
        return self.status is not PageStatus.FAILED_PERMANENT


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a caller waits for: that a page has a result, or that one request for it is answered."""

    url: str

    request_id: UUID | None = None
    """The request, which only a fetch answers that began after the request was accepted. None if
    any result of the page will do."""


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page as the inventory knows it."""

    url: str

    status: PageStatus | str
    """Text where a newer version wrote a status that this version does not know."""

    metadata: PageMetadata | None
    """The page, or the last response of one that failed for good."""

    error: PageError | None
    """What went wrong last. A page that is fetched has none."""

    attempts: int
    """Fetches made for the latest request."""

    request_id: UUID | None
    """The latest request."""

    created_at: datetime

    updated_at: datetime

    lease_expires_at: datetime | None = None
    """Until when the claim of a worker holds, by the clock of the database. It is kept to be
    written back, never to be compared with the clock of this process."""

    has_stalled: bool = False
    """Whether the page has not ended, or a refresh of it has not, and nobody seems to be at work on
    it. The database decides."""

    checked_at: datetime | None = None
    """When the result was stored, or last confirmed by the page's server. Null for a page without
    result, and for a result that version 0.1.0 stored."""

    refresh: Refresh | None = None
    """What is known of a refresh that is to come, under way or failed."""

    stale: bool = False
    """Whether the result is older than the reader has asked for."""

    age_seconds: float | None = field(default=None, compare=False)
    """How long ago `checked_at` was, by the clock of the database."""

    unchanged_seconds: float = field(default=0, compare=False)
    """How long ago `updated_at` was, by the clock of the database."""

    revision: int | None = field(default=None, compare=False)
    """Grows with each change of the record that a reader can see, the metadata included, unlike
    `updated_at`, which can be the same for two changes in one millisecond. Null in a record of
    version 0.1.0."""

    omitted_source_bytes: int = 0
    """The size of `metadata.page_source` in UTF-8 if it was left out because it is large, else 0.
    It is read as null then; `PageRepository.find_with_source()` reads it too."""

    selected: Mapping[str, Any] | None = None
    """The fields of the metadata by their names, if only some of them were read. `metadata` is None
    then. None if there is no metadata, or if it was read whole."""

    @property
    def has_ended(self) -> bool:
        """Whether the page has a result, good or bad."""
        return self.status in ENDED_STATUSES

    @property
    def is_being_refreshed(self) -> bool:
        """Whether the page has a result, and a refresh of it is still to be made."""
        return self.refresh is not None and self.refresh.is_pending

    @property
    def to_come(self) -> Awaited | None:
        """What a reader waits for who is not content with the record, or None if nothing comes.

        A page that has failed, and is asked for again because its failure is stale, is no longer
        one with a result.
        """
        if self.stale and self.refresh is not None and self.refresh.is_pending:
            return Awaited(self.url, self.refresh.request_id)
        has_result = self.status is PageStatus.COMPLETED or (self.has_ended and not self.stale)
        return None if has_result else Awaited(self.url)

    def was_checked_within(self, seconds: float) -> bool:
        """Say whether the result, good or bad, was stored or confirmed so few seconds ago."""
        return self.has_ended and self.age_seconds is not None and self.age_seconds < seconds

    def was_tried_within(self, seconds: float) -> bool:
        """Say the same of the latest try to check it, which may be a refresh that failed."""
        has_failed = self.refresh is not None and not self.is_being_refreshed
        return self.was_checked_within(seconds) or (has_failed and self.unchanged_seconds < seconds)


@dataclass(frozen=True, slots=True)
class PageFilter:
    """Which pages a list is to show: those for which all of this holds."""

    statuses: frozenset[PageStatus] = LISTED_STATUSES

    host: str | None = None
    """The host as the record has it."""

    updated_since: datetime | None = None
    """The record has changed at this time or later."""

    text: str = ""
    """Each of its words is the beginning of a word of the title or of the host."""


@dataclass(frozen=True, slots=True)
class PagePosition:
    """Where a list goes on: after the record with this key, which was made at this time."""

    created_at: datetime

    key: str


@dataclass(frozen=True, slots=True)
class PageList:
    """Some pages of the inventory."""

    records: tuple[PageRecord, ...]

    next: PagePosition | None
    """None if there are no more."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What became of one request for a page."""

    request_id: UUID

    url: str

    status: PageStatus | str
    """How far the fetch that answers the request has come. Text as in `PageRecord`."""

    attempts: int
    """Attempts made at that fetch."""

    error: PageError | None
    """Why its latest attempt failed, or null."""

    answered_by: UUID | None
    """The request that the fetch was made for. Another one than this request where several requests
    share a fetch; null while no fetch has begun."""


class EventKind(StrEnum):
    """What an event says of its page; the values are the second part of its routing key."""

    COMPLETED = "completed"
    """The page was fetched, and there was no result before, or another one."""

    UNCHANGED = "unchanged"
    """The page was fetched again and is the same: its server says so, or sent the same body."""

    FAILED = "failed"
    """The page could not be fetched, and no further attempt will be made. A result that there was
    before stays."""

    DELETED = "deleted"
    """The page was deleted from the inventory."""


@dataclass(frozen=True, slots=True)
class PageEvent:
    """What has happened to a page: there is one event for each outcome of a fetch."""

    event_id: UUID
    """The same in every copy of the event."""

    kind: EventKind

    url: str

    time: datetime
    """When it happened, by the clock of the process that saw it."""

    request_id: UUID | None
    """The request that was fetched for. None for a deletion."""

    status: PageStatus
    """What the request ended with."""

    attempts: int

    final_url: str | None = None
    """This and the next five are of the page that was fetched or confirmed, or of the last response
    of one that failed. None if there was no response."""

    status_code: int | None = None

    content_type: str | None = None

    title: str | None = None

    body_sha256: str | None = None

    fetched_at: datetime | None = None

    previous_body_sha256: str | None = None
    """Of the result that the page had before. None if it had none."""

    checked_at: datetime | None = None
    """When the result was stored or confirmed, by the clock of the worker; the record's is by the
    database's. None if a result that there was before stays."""

    error: PageError | None = None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The little of a stored result that a refresh has to know."""

    final_url: str | None
    status_code: int | None
    content_type: str | None
    title: str | None
    body_sha256: str | None
    fetched_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one worker to make one attempt at a page.

    Another claim on the page makes it void: writes made under a void claim change nothing.
    """

    url: str

    request_id: UUID

    attempt: int

    refreshes: bool
    """Whether the page already has a result, which stays readable until a newer one is stored."""

    token: UUID
    """Unique to this claim."""

    lost_alone: bool = False
    """True if the worker that last made this attempt died while fetching nothing else. The attempt
    then counts as failed, because the page may be what killed the worker."""

    outcome: int = 0
    """The number of the page's outcome that this attempt may bring, from 0."""

    result: StoredResult | None = None
    """The result that the page has already."""

    validators: Validators | None = None
    """What the server gave with that result, if it can be asked whether the page has changed."""

    @property
    def body_sha256(self) -> str | None:
        """The SHA-256 of the body that the page has already."""
        return self.result.body_sha256 if self.result else None

    def is_unchanged(self, metadata: PageMetadata) -> bool:
        """Say whether a page has the body that it had already."""
        return metadata.body_sha256 == self.body_sha256


@dataclass(frozen=True, slots=True)
class Busy:
    """Another request's fetch is under way, and may have begun before this request was accepted."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The page was stored, or the stored page was confirmed by its server."""

    status: PageStatus
    """The record's status after the write."""

    is_unchanged: bool = False
    """Whether the body is the one that was stored before. The bodies decide, by their SHA-256: a
    server may well answer 200 with the same body again."""

    event: PageEvent | None = None
    """What is to be told of it, if anything."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The attempt failed in a way that may pass: ask again after the delay."""

    request: PageRequest
    """The request with the number of the next attempt."""

    error: PageError

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class FailedPermanently:
    """The page failed for good."""

    error: PageError

    status: PageStatus
    """The record's status after the write."""

    event: PageEvent | None = None
    """What is to be told of it, if anything."""


@dataclass(frozen=True, slots=True)
class Coalesced:
    """No result of this delivery is kept: another fetch has answered its request, or will."""

    reason: str

    events: tuple[PageEvent, ...] = ()
    """What is to be told of the outcomes that this very request had before. A worker that died
    after it had stored one may not have told it."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Nothing was decided: deliver the same request again after the delay."""

    request: PageRequest

    reason: str

    delay_seconds: float

    deferrals: int
    """How often that has happened to the request, this time included."""


Outcome = Completed | RetryLater | FailedPermanently | Coalesced | Deferred
