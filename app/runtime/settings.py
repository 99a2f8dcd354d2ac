"""The settings of both processes, read from the environment and `.env`.

Only the two `main.py` files build them; everything else receives plain values.
"""

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
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
from app.retries import Backoff

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


List = (NoDecode, BeforeValidator(_comma_separated))
LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Multiplier = Annotated[float, Field(ge=1, le=100)]
Delay = Annotated[float, Field(ge=0.001, le=4_000_000)]
"""Seconds as RabbitMQ can count them: it takes whole milliseconds, up to 32 bits of them."""
Port = Annotated[int, Field(ge=1, le=65535)]
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$", max_length=200)]


class Settings(BaseSettings):
    """Every variable of `.env.example`, checked; durations are in seconds."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    broker_url: Annotated[str, _with_scheme("amqp", "amqps")] = Field(
        "amqp://guest:guest@localhost:5672/",
        description="RabbitMQ; amqps:// works too, and several hosts: amqp://host1,host2:5673/",
    )
    broker_queue_name: QueueName = Field(
        "metadata.requests",
        description="Request queue; its first part is the prefix of all queue names",
    )
    broker_queue_max_length: PositiveInt = Field(
        1000, description="Waiting requests beyond which POST answers 503"
    )
    broker_queue_type: Literal["quorum", "classic"] = Field(
        "quorum", description="quorum (replicated in a cluster) or classic"
    )
    broker_publish_timeout_seconds: Seconds = Field(
        10, description="The whole wait for a publisher confirm"
    )
    broker_initial_backoff_seconds: Seconds = Field(
        1, description="Delay after the first failed connection attempt"
    )
    broker_max_backoff_seconds: Seconds = Field(30, description="The longest such delay")
    broker_backoff_multiplier: Multiplier = Field(2, description="Growth from delay to delay")
    broker_max_connection_attempts: PositiveInt = Field(
        10, description="Attempts at start before the process gives up; reconnection never does"
    )

    database_url: Annotated[str, _with_scheme("mongodb", "mongodb+srv")] = Field(
        "mongodb://localhost:27017", description="MongoDB; mongodb+srv:// works too"
    )
    database_name: str = Field(
        "metadata_inventory",
        pattern=r"^[A-Za-z0-9_-]{1,63}$",
        description="Database; the collection is `pages`",
    )
    database_timeout_seconds: Seconds = Field(5, description="Bound on every database operation")
    database_initial_backoff_seconds: Seconds = Field(
        1, description="Delay after the first failed connection attempt"
    )
    database_max_backoff_seconds: Seconds = Field(30, description="The longest such delay")
    database_backoff_multiplier: Multiplier = Field(2, description="Growth from delay to delay")
    database_max_connection_attempts: PositiveInt = Field(
        10, description="Attempts at start before the process gives up"
    )

    worker_concurrency: PositiveInt = Field(
        16, description="Pages fetched at once by one worker process"
    )
    worker_prefetch_count: PositiveInt = Field(
        1, description="Unacknowledged messages per slot; QoS is concurrency x prefetch"
    )
    worker_max_attempts: PositiveInt = Field(
        5, description="Fetch attempts for one request before it fails for good"
    )
    worker_retry_delays_seconds: Annotated[tuple[Delay, ...], *List] = Field(
        (5, 30, 120, 600),
        min_length=1,
        description="Delay before attempt 2, 3, ...; the last one repeats",
    )
    worker_lease_seconds: Seconds = Field(
        120, description="How long a claim on a page holds without its worker finishing"
    )
    worker_shutdown_grace_seconds: Seconds = Field(
        30, description="How long pages in flight may finish after SIGTERM"
    )

    fetch_connect_timeout_seconds: Seconds = Field(5, description="Bound on opening one connection")
    fetch_total_timeout_seconds: Seconds = Field(
        20, description="Deadline over redirects, headers and body together"
    )
    fetch_max_body_bytes: PositiveInt = Field(
        5_000_000, description="Decoded bytes kept of a body; the rest is cut and said so"
    )
    fetch_max_redirects: int = Field(5, ge=0, description="Redirects followed for one page")
    fetch_user_agent: str = Field(
        f"page-metadata/{__version__} (+https://github.com/page-metadata/page-metadata)",
        min_length=1,
        pattern=r"^[\x20-\x7e]+$",
        description="How the fetcher introduces itself",
    )
    fetch_allowed_ports: Annotated[frozenset[Port], *List] = Field(
        frozenset({80, 443}), min_length=1, description="Ports that may be fetched"
    )
    fetch_per_host_concurrency: int = Field(
        8, ge=0, description="Connections to one host from one worker process; 0 is no limit"
    )
    fetch_respect_robots: bool = Field(False, description="Make robots.txt binding")
    fetch_allowed_networks: Annotated[tuple[Network, ...], *List] = Field(
        (),
        description="CIDRs exempt from the guard on any port: for development, e.g. 127.0.0.0/8",
    )

    log_level: Annotated[LogLevel, BeforeValidator(_upper)] = Field(
        "INFO", description="Least severe level that is logged"
    )
    log_format: Literal["json", "text"] = Field(
        "json", description="json (one object a line) or text (for people)"
    )

    @model_validator(mode="after")
    def _queue_names_must_differ(self) -> Self:
        reserved = ("retry", "retries", "dead")
        if self.broker_queue_name.split(".", 1)[1].split(".")[0] in reserved:
            raise ValueError(
                "BROKER_QUEUE_NAME: its second part must not be retry, retries or dead; "
                "the other queues are called so"
            )
        return self

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
