"""The Prometheus metrics of a process, shown at `/metrics` of its own port.

They are defined here and counted where the thing happens, by one line there. Labels take a few
values, all known beforehand: never a URL, a host or an id. Each process has a registry of its
own, so each needs a port of its own to be scraped (`docs/operations.md`).
"""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from app.errors import FetchError, PublishFault
from app.models import (
    Coalesced,
    Completed,
    Deferred,
    EventKind,
    FailedPermanently,
    NotModified,
    Outcome,
    PageMetadata,
    RetryLater,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

# prometheus_client would add a series `..._created` to each counter, which nothing here reads.
disable_created_metrics()  # type: ignore[no-untyped-call]  # published half typed

REGISTRY = CollectorRegistry()
for collector in (ProcessCollector, PlatformCollector, GCCollector):
    collector(registry=REGISTRY)

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets, in seconds, for operations that usually take milliseconds."""

REQUEST_SECONDS = Histogram(
    "page_metadata_http_request_seconds",
    "HTTP requests answered, less the time in which callers wait for a page, or for a refusal.",
    ["method", "route", "status"],
    buckets=QUICK,
    registry=REGISTRY,
)
PUBLISH_SECONDS = Histogram(
    "page_metadata_publish_seconds",
    "Messages published, by outcome: from the call to the confirm, or to the error.",
    ["outcome"],
    buckets=QUICK,
    registry=REGISTRY,
)
PUBLISHER_STATE = Enum(
    "page_metadata_publisher_state",
    "State of the connection to the broker; messages are published only in READY.",
    states=[
        *("DISCONNECTED", "CONNECTING", "CONNECTED", "CHANNEL_OPEN", "CONFIRM_ENABLED"),
        *("QUEUE_DECLARED", "READY", "RECONNECTING", "CLOSING", "CLOSED"),
    ],
    registry=REGISTRY,
)
PUBLISHER_READY = Gauge(
    "page_metadata_publisher_ready",
    "1 if messages can be published: the state is READY and the broker has raised no alarm.",
    registry=REGISTRY,
)
QUEUE_MESSAGES = Gauge(
    "page_metadata_queue_messages",
    "Messages that wait in a queue; absent while the broker does not answer.",
    ["queue"],
    registry=REGISTRY,
)
QUEUE_CONSUMERS = Gauge(
    "page_metadata_queue_consumers",
    "Consumers of a queue; absent while the broker does not answer.",
    ["queue"],
    registry=REGISTRY,
)
PAGES_IN_FLIGHT = Gauge(
    "page_metadata_pages_in_flight", "Messages being handled by this worker.", registry=REGISTRY
)
WORKER_SLOTS = Gauge(
    "page_metadata_worker_slots", "Messages this worker handles at once.", registry=REGISTRY
)
FETCH_SECONDS = Histogram(
    "page_metadata_fetch_seconds",
    "Fetches, by the class of the final status (2xx, ...), or by the kind of error.",
    ["outcome", "error_kind"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40),
    registry=REGISTRY,
)
BODY_BYTES = Histogram(
    "page_metadata_body_bytes",
    "Bytes kept of a fetched body, after content decoding.",
    buckets=(1_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 20_000_000),
    registry=REGISTRY,
)
EXTRACTION_SECONDS = Histogram(
    "page_metadata_extraction_seconds",
    "HTML pages read for what they say about themselves.",
    buckets=QUICK,
    registry=REGISTRY,
)
ATTEMPTS = Histogram(
    "page_metadata_attempts",
    "Attempts, by their number: the first bucket holds first attempts.",
    buckets=(1, 2, 3, 4, 5, 10, 20),
    registry=REGISTRY,
)
OUTCOMES = Counter(
    "page_metadata_outcomes_total",
    "Messages handled: completed, retry, failed or coalesced, with the kind of error.",
    ["outcome", "error_kind"],
    registry=REGISTRY,
)
RETRIES = Counter(
    "page_metadata_retries_total",
    "Retries published, by their delay in seconds.",
    ["delay_seconds"],
    registry=REGISTRY,
)
COALESCED = Counter(
    "page_metadata_coalesced_total",
    "Messages that needed no fetch of their own, by the reason.",
    ["reason"],
    registry=REGISTRY,
)
DEFERRED = Counter(
    "page_metadata_deferred_total",
    "Messages deferred, their attempt unused: database away, host busy, page being fetched.",
    registry=REGISTRY,
)
EVENTS = Counter(
    "page_metadata_events_total",
    "Events of pages by their kind, and whether they were published or put down for later.",
    ["kind", "outcome"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "page_metadata_dead_letters_total",
    "Messages this worker rejected: malformed, or unhandled because of an error in the code.",
    ["reason"],
    registry=REGISTRY,
)
DATABASE_SECONDS = Histogram(
    "page_metadata_database_seconds",
    "Database commands that were answered, by command and outcome.",
    ["command", "outcome"],
    buckets=QUICK,
    registry=REGISTRY,
)
DATABASE_UNAVAILABLE = Counter(
    "page_metadata_database_unavailable_total",
    "Database operations that failed or were not done in time.",
    registry=REGISTRY,
)

# Prometheus computes the first increase only if it has seen the zero before it.
for outcome in ("success", *PublishFault):
    PUBLISH_SECONDS.labels(outcome)
for kind in EventKind:
    for outcome in ("published", "put down"):
        EVENTS.labels(kind, outcome)
for reason in ("malformed", "unhandled"):
    DEAD_LETTERS.labels(reason)


def exposition() -> bytes:
    """Return every metric in Prometheus' text format."""
    return generate_latest(REGISTRY)


def observe_fetch(result: PageMetadata | NotModified | FetchError, seconds: float) -> None:
    """Count a fetch that took `seconds`, and the size of its page if the server sent one."""
    FETCH_SECONDS.labels(*_fetch_labels(result)).observe(seconds)
    if isinstance(result, PageMetadata):
        BODY_BYTES.observe(result.body_bytes)


def _fetch_labels(result: PageMetadata | NotModified | FetchError) -> tuple[str, str]:
    if isinstance(result, FetchError):
        return "error", result.kind
    return f"{result.status_code // 100}xx", ""


def count_outcome(outcome: Outcome) -> None:
    """Count the outcome of a message."""
    match outcome:
        case Completed():
            OUTCOMES.labels("completed", "").inc()
        case RetryLater(error=error, delay_seconds=delay_seconds):
            OUTCOMES.labels("retry", error.kind).inc()
            RETRIES.labels(f"{delay_seconds:g}").inc()
        case FailedPermanently(error=error):
            OUTCOMES.labels("failed", error.kind).inc()
        case Coalesced(reason=reason):
            OUTCOMES.labels("coalesced", "").inc()
            COALESCED.labels(reason).inc()
        case Deferred():
            DEFERRED.inc()
