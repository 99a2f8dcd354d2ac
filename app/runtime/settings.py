"""The settings of both processes, read from the environment and `.env`.

`load_settings()` builds them, for a process or a command. The assembly and the applications take
from them the plain values that all else receives.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import __version__
from app.retries import WRITE_AGAIN, Backoff

Network = IPv4Network | IPv6Network


def _comma_separated(value: Any) -> Any:
    """Turn "a, b" into ["a", "b"]; anything else is left to the field's own validation."""
    if not isinstance(value, str):
        return value
    return [item.strip() for item in value.split(",") if item.strip()]


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _with_scheme(*schemes: str) -> AfterValidator:
    def check(url: str) -> str:
        if not url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must start with {' or '.join(f'{s}://' for s in schemes)}")
        _check_hosts(url)
        return url

    return AfterValidator(check)


def _check_hosts(url: str) -> None:
    """Raise `ValueError` unless the URL names at least one host, and all of them rightly."""
    authority = re.split(r"[/?#]", url.partition("://")[2])[0]
    credentials, _, hosts = authority.rpartition("@")
    if credentials.count(":") > 1:
        raise ValueError("write a colon in the user name or password as %3A")
    for host in hosts.split(","):
        parts = urlsplit(f"//{host}")
        if not parts.hostname or parts.port == 0:
            raise ValueError("names no host and port, as in localhost:5672")


def _not_reserved(queue_name: str) -> str:
    if queue_name.startswith("amq."):
        raise ValueError("must not begin with amq.: these names are RabbitMQ's own")
    if queue_name.split(".")[1] in ("retry", "retries", "dead"):
        raise ValueError(
            "its second part must not be retry, retries or dead: the other queues have these names"
        )
    return queue_name


def _network(value: Any) -> Any:
    """Return the network that a text names, with one reason if it names none."""
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError as exc:
        raise ValueError(f"{exc}; write networks as in 10.0.0.0/8,fd00::/8") from exc


def _name_alone(name: str) -> str:
    if not re.fullmatch(r"[^\s=:;]+", name):
        raise ValueError("write names of headers or cookies alone, as in set-cookie,session_id")
    return name.lower()


List = (NoDecode, BeforeValidator(_comma_separated))
LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
MAX_SECONDS = 4_000_000
"""Over 46 days. RabbitMQ counts delays in whole milliseconds, up to 32 bits of them."""
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
Multiplier = Annotated[float, Field(ge=1, le=100)]
Delay = Annotated[float, Field(ge=0.001, le=MAX_SECONDS)]
MAX_QOS = 65_535
"""The most unacknowledged messages that AMQP can name: 16 bits."""
Port = Annotated[int, Field(ge=1, le=65535)]
Networks = Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], *List]
Names = Annotated[frozenset[Annotated[str, AfterValidator(_name_alone)]], *List]
QueueName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$", max_length=200),
    AfterValidator(_not_reserved),
]


class Settings(BaseSettings):
    """Every variable of `.env.example`, checked; durations are in seconds.

    The string below a field becomes its comment in `.env.example`.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    broker_url: Annotated[str, _with_scheme("amqp", "amqps")] = "amqp://guest:guest@localhost:5672/"
    """RabbitMQ; amqps:// works too, and several hosts: amqp://host1,host2:5673/"""

    broker_queue_name: QueueName = "metadata.requests"
    """Request queue; its first part is the prefix of all queue names"""

    broker_queue_max_length: Annotated[int, Field(gt=0, le=2**31 - 1)] = 1000
    """Waiting requests beyond which POST answers 503"""

    broker_queue_type: Literal["quorum", "classic"] = "quorum"
    """quorum (replicated in a cluster) or classic"""

    broker_publish_timeout_seconds: Seconds = 10
    """How long to wait for a publisher confirm, everything included"""

    broker_initial_backoff_seconds: Seconds = 1
    """Delay after the first failed connection attempt"""

    broker_max_backoff_seconds: Seconds = 30
    """Longest delay between connection attempts"""

    broker_backoff_multiplier: Multiplier = 2
    """Factor by which the delay grows after each failed attempt"""

    broker_max_connection_attempts: PositiveInt = 10
    """Attempts at start before the process gives up; a reconnection never gives up"""

    database_url: Annotated[str, _with_scheme("mongodb", "mongodb+srv")] = (
        "mongodb://localhost:27017"
    )
    """MongoDB; mongodb+srv:// works too"""

    database_driver: Literal["motor", "pymongo"] = "motor"
    """Client library: `motor`, or `pymongo`, whose own asynchronous client costs less CPU"""

    database_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")] = "metadata_inventory"
    """Database; the collection is `pages`"""

    database_timeout_seconds: Seconds = 5
    """Bound on every database operation"""

    database_initial_backoff_seconds: Seconds = 1
    """Delay after the first failed connection attempt"""

    database_max_backoff_seconds: Seconds = 30
    """Longest delay between connection attempts"""

    database_backoff_multiplier: Multiplier = 2
    """Factor by which the delay grows after each failed attempt"""

    database_max_connection_attempts: PositiveInt = 10
    """Attempts at start before the process gives up"""

    worker_concurrency: PositiveInt = 16
    """Pages fetched at once by one worker process"""

    worker_prefetch_count: PositiveInt = 1
    """Unacknowledged messages per slot; QoS is concurrency x prefetch"""

    worker_max_attempts: PositiveInt = 5
    """Fetch attempts for one request before it fails for good"""

    worker_retry_delays_seconds: Annotated[tuple[Delay, ...], *List, Field(min_length=1)] = (
        5,
        30,
        120,
        600,
    )
    """Delay before attempt 2, 3, ...; the last one repeats"""

    worker_lease_seconds: Seconds = 120
    """How long a claim on a page holds without its worker finishing"""

    worker_shutdown_grace_seconds: Seconds = 30
    """How long pages in flight may finish after SIGTERM"""

    worker_extract: bool = True
    """Read what HTML pages say about themselves: title, description, image and so on"""

    store_page_source: bool = True
    """Keep the source of pages; with false it is read for the document, then dropped, and null"""

    store_redacted_headers: Names = frozenset()
    """Response headers and cookies that are kept without their values, by their names;
    set-cookie is all cookies"""

    # MongoDB takes 2**31 - 1 seconds, of which a day is that within which reading is not noted.
    pages_retention_days: Annotated[int, Field(ge=0, le=24_854)] = 0
    """Days after which MongoDB removes a result that nobody has asked for since; 0 is never. Give
    the API and workers the same number"""

    events: bool = True
    """Publish an event for each page that is completed, unchanged, failed or deleted"""

    fetch_connect_timeout_seconds: Seconds = 5
    """Bound on opening one connection"""

    fetch_total_timeout_seconds: Seconds = 20
    """Deadline for redirects, headers and body together"""

    fetch_max_body_bytes: PositiveInt = 5_000_000
    """Decoded bytes kept of a body; the rest is cut off, and the result says so"""

    fetch_max_redirects: Annotated[int, Field(ge=0)] = 5
    """Redirects followed for one page"""

    fetch_user_agent: Annotated[str, Field(min_length=1, pattern=r"^[\x20-\x7e]+$")] = (
        f"page-metadata/{__version__} (+https://github.com/page-metadata/page-metadata)"
    )
    """How the fetcher introduces itself"""

    fetch_allowed_ports: Annotated[frozenset[Port], *List, Field(min_length=1)] = frozenset(
        {80, 443}
    )
    """Ports that may be fetched"""

    fetch_per_host_concurrency: Annotated[int, Field(ge=0)] = 8
    """Connections to one host from one worker process; 0 is no limit"""

    fetch_per_host_per_minute: Annotated[int, Field(ge=0)] = 0
    """Pages of one host that one worker process begins to fetch in a minute; 0 is any number. It is
    for each process, as workers share nothing: a common count would cost each page another write"""

    fetch_respect_robots: bool = False
    """Obey robots.txt"""

    fetch_conditional: bool = True
    """Have a refresh ask the server whether the page has changed, instead of fetching it anew"""

    fetch_allowed_networks: Networks = ()
    """CIDRs exempt from the guard on any port: for development, e.g. 127.0.0.0/8"""

    fetch_denied_networks: Networks = ()
    """CIDRs that are never fetched, besides those the guard always refuses: your own public ranges,
    a local NAT64 prefix"""

    api_auth: Literal["off", "required"] = "off"
    """required: callers need a key, which `pagemeta keys create` makes; off: nobody does"""

    api_requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """Requests without a key that one API process takes from one client address; 0 is any number.
    Where keys are required, these are the requests that are answered 401"""

    api_min_refresh_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """POST answers with a result that is younger than this, instead of having it fetched again"""

    # One query names the URLs of all who wait. MongoDB takes 16 MB, and a URL may have 6 KB.
    api_max_waiters: Annotated[int, Field(ge=0, le=2000)] = 1000
    """Requests of one API process that may wait at once by `Prefer: wait`; 0 is none"""

    log_level: Annotated[LogLevel, BeforeValidator(_upper)] = "INFO"
    """Least severe level that is logged"""

    log_format: Literal["json", "text"] = "json"
    """json (one object a line) or text (for people)"""

    @model_validator(mode="after")
    def _must_not_contradict_each_other(self) -> Self:
        if found := list(_contradictions(self)):
            raise ValueError("\n  ".join(found))
        return self

    @property
    def longest_attempt_seconds(self) -> float:
        """How long a worker may need its claim on a page.

        It takes the claim with one database operation, fetches the page, and stores the outcome,
        if need be with every try that `WRITE_AGAIN` allows. What is not counted is short: some
        seconds of waiting for a busy host, and the parsing of the page.
        """
        claiming = self.database_timeout_seconds
        storing = WRITE_AGAIN.longest_seconds(self.database_timeout_seconds)
        return claiming + self.fetch_total_timeout_seconds + storing

    @property
    def patience(self) -> timedelta:
        """How long a request may wait for its worker, retries included, before it is renewed."""
        return timedelta(seconds=self.worker_lease_seconds + sum(self.worker_retry_delays_seconds))

    @property
    def broker_backoff(self) -> Backoff:
        """The four broker settings about connection attempts, as one value."""
        return Backoff(
            initial=self.broker_initial_backoff_seconds,
            maximum=self.broker_max_backoff_seconds,
            multiplier=self.broker_backoff_multiplier,
            attempts=self.broker_max_connection_attempts,
        )

    @property
    def database_backoff(self) -> Backoff:
        """The four database settings about connection attempts, as one value."""
        return Backoff(
            initial=self.database_initial_backoff_seconds,
            maximum=self.database_max_backoff_seconds,
            multiplier=self.database_backoff_multiplier,
            attempts=self.database_max_connection_attempts,
        )


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yield a line for each pair of settings that contradict each other, which says what to do."""
    for server in ("BROKER", "DATABASE"):
        initial, longest = f"{server}_INITIAL_BACKOFF_SECONDS", f"{server}_MAX_BACKOFF_SECONDS"
        yield from _out_of_order(settings, initial, longest)
    yield from _out_of_order(
        settings, "FETCH_CONNECT_TIMEOUT_SECONDS", "FETCH_TOTAL_TIMEOUT_SECONDS"
    )
    concurrency, prefetch = settings.worker_concurrency, settings.worker_prefetch_count
    if concurrency * prefetch > MAX_QOS:
        yield (
            f"WORKER_CONCURRENCY and WORKER_PREFETCH_COUNT: {concurrency} times {prefetch} is more "
            f"than the {MAX_QOS} unacknowledged messages that AMQP allows; lower one of them"
        )
    # A claim that ends while its worker is still at work is given to the next worker that asks.
    # If every attempt takes longer than the lease, each result comes too late to be stored, and
    # the page is fetched again and again.
    needed = settings.longest_attempt_seconds
    if settings.worker_lease_seconds < needed:
        yield (
            "WORKER_LEASE_SECONDS and FETCH_TOTAL_TIMEOUT_SECONDS: the lease of "
            f"{settings.worker_lease_seconds:g} s may end before the worker has fetched the page "
            f"and stored the result, which can take {needed:g} s; raise WORKER_LEASE_SECONDS to "
            f"{needed:g} or more, or lower FETCH_TOTAL_TIMEOUT_SECONDS "
            f"({settings.fetch_total_timeout_seconds:g}) or DATABASE_TIMEOUT_SECONDS "
            f"({settings.database_timeout_seconds:g})"
        )
    # A refresh that waits for its retry has a result, which might be removed meanwhile.
    retention = timedelta(days=settings.pages_retention_days)
    if retention and settings.patience > retention:
        yield (
            "PAGES_RETENTION_DAYS and WORKER_RETRY_DELAYS_SECONDS: a result may be removed after "
            f"{settings.pages_retention_days} days while a request for it still waits for its "
            f"retries, which are {sum(settings.worker_retry_delays_seconds):g} s and a lease away; "
            "raise the first or lower the second"
        )


def _out_of_order(settings: Settings, lower: str, upper: str) -> Iterator[str]:
    low, high = getattr(settings, lower.lower()), getattr(settings, upper.lower())
    if low > high:
        yield (
            f"{lower} and {upper}: {low:g} is more than {high:g}; lower the first or raise the "
            "second"
        )


def load_settings() -> Settings:
    """Read the settings, or end the process with a message that names what to correct."""
    try:
        return Settings()
    except ValidationError as exc:
        raise SystemExit(describe_invalid(exc)) from exc


def describe_invalid(exc: ValidationError) -> str:
    """Return one line for each variable that can't be used."""
    lines = [_describe_one(error["loc"], error["msg"]) for error in exc.errors()]
    return "\n".join(["The settings can't be used:", *lines, "See .env.example for all of them."])


def _describe_one(location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]).upper() if location else ""
    reason = message.removeprefix("Value error, ")
    return f"  {name}: {reason}" if name else f"  {reason}"
