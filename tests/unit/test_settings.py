"""The settings: their defaults, and which values are refused with which message."""

import os
import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app import __version__
from app.retries import Backoff
from app.runtime.settings import Settings, load_settings

REPOSITORY = Path(__file__).parents[2]

DEFAULTS: dict[str, Any] = {
    "BROKER_URL": "amqp://guest:guest@localhost:5672/",
    "BROKER_QUEUE_NAME": "metadata.requests",
    "BROKER_QUEUE_MAX_LENGTH": 1000,
    "BROKER_QUEUE_TYPE": "quorum",
    "BROKER_PUBLISH_TIMEOUT_SECONDS": 10,
    "BROKER_INITIAL_BACKOFF_SECONDS": 1,
    "BROKER_MAX_BACKOFF_SECONDS": 30,
    "BROKER_BACKOFF_MULTIPLIER": 2,
    "BROKER_MAX_CONNECTION_ATTEMPTS": 10,
    "DATABASE_URL": "mongodb://localhost:27017",
    "DATABASE_DRIVER": "motor",
    "DATABASE_NAME": "metadata_inventory",
    "DATABASE_TIMEOUT_SECONDS": 5,
    "DATABASE_INITIAL_BACKOFF_SECONDS": 1,
    "DATABASE_MAX_BACKOFF_SECONDS": 30,
    "DATABASE_BACKOFF_MULTIPLIER": 2,
    "DATABASE_MAX_CONNECTION_ATTEMPTS": 10,
    "WORKER_CONCURRENCY": 16,
    "WORKER_PREFETCH_COUNT": 1,
    "WORKER_MAX_ATTEMPTS": 5,
    "WORKER_RETRY_DELAYS_SECONDS": (5, 30, 120, 600),
    "WORKER_LEASE_SECONDS": 120,
    "WORKER_SHUTDOWN_GRACE_SECONDS": 30,
    "WORKER_EXTRACT": True,
    "STORE_PAGE_SOURCE": True,
    "STORE_REDACTED_HEADERS": frozenset(),
    "PAGES_RETENTION_DAYS": 0,
    "EVENTS": True,
    "FETCH_CONNECT_TIMEOUT_SECONDS": 5,
    "FETCH_TOTAL_TIMEOUT_SECONDS": 20,
    "FETCH_MAX_BODY_BYTES": 5_000_000,
    "FETCH_MAX_REDIRECTS": 5,
    "FETCH_ALLOWED_PORTS": {80, 443},
    "FETCH_PER_HOST_CONCURRENCY": 8,
    "FETCH_PER_HOST_PER_MINUTE": 0,
    "FETCH_RESPECT_ROBOTS": False,
    "FETCH_CONDITIONAL": True,
    "FETCH_ALLOWED_NETWORKS": (),
    "FETCH_DENIED_NETWORKS": (),
    "API_AUTH": "off",
    "API_REQUESTS_PER_MINUTE": 0,
    "API_MIN_REFRESH_SECONDS": 0,
    "API_MAX_WAITERS": 1000,
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "json",
}

POSITIVE_NUMBERS = [
    name for name in DEFAULTS if name.endswith("_SECONDS") and not name.startswith("API_MIN_")
]
COUNTS = [
    "BROKER_QUEUE_MAX_LENGTH",
    "BROKER_MAX_CONNECTION_ATTEMPTS",
    "DATABASE_MAX_CONNECTION_ATTEMPTS",
    "WORKER_CONCURRENCY",
    "WORKER_PREFETCH_COUNT",
    "WORKER_MAX_ATTEMPTS",
    "FETCH_MAX_BODY_BYTES",
]
REFUSED = [
    *((name, value) for name in POSITIVE_NUMBERS for value in ("0", "-1", "soon", "")),
    *((name, value) for name in COUNTS for value in ("0", "-1", "1.5", "many", "")),
    *(
        (f"{it}_BACKOFF_MULTIPLIER", value)
        for it in ("BROKER", "DATABASE")
        for value in ("0.5", "x")
    ),
    *(("BROKER_URL", value) for value in ("", "localhost:5672", "http://localhost", "AMQP")),
    *(("BROKER_QUEUE_NAME", value) for value in ("", "requests", ".requests", "a b.c", "a..b")),
    *(("BROKER_QUEUE_NAME", f"metadata.{taken}") for taken in ("dead", "retries", "retry.5s")),
    *(("BROKER_QUEUE_NAME", value) for value in (f"metadata.{'x' * 200}", "amq.requests")),
    ("BROKER_QUEUE_MAX_LENGTH", "2147483648"),
    *(("BROKER_QUEUE_TYPE", value) for value in ("", "stream", "QUORUM")),
    *(("DATABASE_URL", value) for value in ("", "localhost", "postgres://localhost")),
    *(("DATABASE_DRIVER", value) for value in ("", "Motor", "sync")),
    *(("DATABASE_NAME", value) for value in ("", "a.b", "a b", "$x", "x" * 64)),
    *(("WORKER_RETRY_DELAYS_SECONDS", value) for value in (",", "5,,x", "5;30", "5,0", "5,-30")),
    *(("FETCH_MAX_REDIRECTS", value) for value in ("-1", "few")),
    *(("FETCH_PER_HOST_CONCURRENCY", value) for value in ("-1", "all")),
    *(("FETCH_PER_HOST_PER_MINUTE", value) for value in ("-1", "1.5", "all", "")),
    ("STORE_PAGE_SOURCE", "perhaps"),
    *(("STORE_REDACTED_HEADERS", value) for value in ("x-a: b", "session=1", "a b", "a;b")),
    *(("PAGES_RETENTION_DAYS", value) for value in ("-1", "0.5", "24855", "ever", "")),
    *(("FETCH_USER_AGENT", value) for value in ("", "a\nb", "é")),
    *(("FETCH_ALLOWED_PORTS", value) for value in ("", "0", "65536", "80,http")),
    *(
        (f"FETCH_{it}_NETWORKS", value)
        for it in ("ALLOWED", "DENIED")
        for value in ("localhost", "127.0.0.1/8", "10.0.0.0/33")
    ),
    ("FETCH_RESPECT_ROBOTS", "perhaps"),
    ("FETCH_CONDITIONAL", "perhaps"),
    *(("API_AUTH", value) for value in ("on", "REQUIRED", "true", "")),
    *(("API_REQUESTS_PER_MINUTE", value) for value in ("-1", "1.5", "many", "")),
    *(("API_MIN_REFRESH_SECONDS", value) for value in ("-1", "inf", "nan", "")),
    *(("API_MAX_WAITERS", value) for value in ("-1", "2001", "many", "")),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
]


@pytest.fixture(autouse=True)
def elsewhere(bare_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` of a developer's is read here."""
    bare_environment.chdir(tmp_path)


@pytest.fixture
def environment(bare_environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return bare_environment


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items(), ids=DEFAULTS.keys())
def test_the_default_is_the_documented_one(name: str, default: Any) -> None:
    assert getattr(load_settings(), name.lower()) == default


def test_the_fetcher_introduces_itself_by_name_version_and_address() -> None:
    assert load_settings().fetch_user_agent.startswith(f"page-metadata/{__version__} (+https://")


def test_there_is_no_setting_that_the_table_does_not_know() -> None:
    names = {name.upper() for name in Settings.model_fields}
    assert names == {*DEFAULTS, "FETCH_USER_AGENT"}


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=[f"{n}={v[:20]}" for n, v in REFUSED])
def test_a_bad_value_ends_the_process_with_a_message_that_names_it(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        load_settings()
    lines = str(end.value.code).splitlines()
    assert lines[0] == "The settings can't be used:"
    assert {line.split(":")[0] for line in lines[1:-1]} == {f"  {name}"}
    assert ".env.example" in lines[-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "amqp://"),
        ("BROKER_URL", "amqp://localhost:http/"),
        ("DATABASE_URL", "mongodb://"),
        ("DATABASE_URL", "mongodb://user:pass:word@localhost"),
        ("WORKER_LEASE_SECONDS", "1e300"),
        ("WORKER_RETRY_DELAYS_SECONDS", "inf"),
        ("WORKER_RETRY_DELAYS_SECONDS", "0.0001"),
    ],
)
def test_a_value_that_is_well_formed_but_useless_is_bad_too(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SystemExit, match=name):
        load_settings()


LEASE_AND_FETCH = ("WORKER_LEASE_SECONDS", "FETCH_TOTAL_TIMEOUT_SECONDS")
BROKER_BACKOFF = ("BROKER_INITIAL_BACKOFF_SECONDS", "BROKER_MAX_BACKOFF_SECONDS")
DATABASE_BACKOFF = ("DATABASE_INITIAL_BACKOFF_SECONDS", "DATABASE_MAX_BACKOFF_SECONDS")
CONNECT_AND_FETCH = ("FETCH_CONNECT_TIMEOUT_SECONDS", "FETCH_TOTAL_TIMEOUT_SECONDS")

CONTRADICTIONS = {
    # With the defaults an attempt may take 57.5 s: a claim (5), a fetch (20), and five tries to
    # store the result (5 each) with 7.5 s between them.
    "a lease shorter than a fetch": ({"WORKER_LEASE_SECONDS": "5"}, LEASE_AND_FETCH),
    "a lease just too short": ({"WORKER_LEASE_SECONDS": "57"}, LEASE_AND_FETCH),
    "a fetch longer than a lease": ({"FETCH_TOTAL_TIMEOUT_SECONDS": "120"}, LEASE_AND_FETCH),
    "writes longer than a lease": ({"DATABASE_TIMEOUT_SECONDS": "30"}, LEASE_AND_FETCH),
    "backoff to the broker": ({"BROKER_MAX_BACKOFF_SECONDS": "0.5"}, BROKER_BACKOFF),
    "backoff to the database": ({"DATABASE_INITIAL_BACKOFF_SECONDS": "31"}, DATABASE_BACKOFF),
    "a connection longer than a fetch": (
        {"FETCH_CONNECT_TIMEOUT_SECONDS": "21"},
        CONNECT_AND_FETCH,
    ),
    "results kept shorter than requests wait": (
        {"PAGES_RETENTION_DAYS": "1", "WORKER_RETRY_DELAYS_SECONDS": "86400"},
        ("PAGES_RETENTION_DAYS", "WORKER_RETRY_DELAYS_SECONDS"),
    ),
    "more slots than AMQP can count": (
        {"WORKER_CONCURRENCY": "65536"},
        ("WORKER_CONCURRENCY", "WORKER_PREFETCH_COUNT"),
    ),
    "a fetch shorter than a connection": ({"FETCH_TOTAL_TIMEOUT_SECONDS": "4"}, CONNECT_AND_FETCH),
}


@pytest.mark.parametrize(("given", "both"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_settings_that_contradict_each_other_end_the_process_with_a_message_that_names_both(
    environment: pytest.MonkeyPatch, given: dict[str, str], both: tuple[str, str]
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        load_settings()
    (line,) = str(end.value.code).splitlines()[1:-1]
    assert line.startswith(f"  {' and '.join(both)}: ")
    assert re.search("; (raise|lower) ", line)
    assert all(value in line for value in given.values())


AGREEMENTS: dict[str, dict[str, str]] = {
    "a lease just long enough": {"WORKER_LEASE_SECONDS": "57.5"},
    "as many slots as AMQP can count": {
        "WORKER_CONCURRENCY": "13107",
        "WORKER_PREFETCH_COUNT": "5",
    },
    "equal backoff": {"BROKER_INITIAL_BACKOFF_SECONDS": "2", "BROKER_MAX_BACKOFF_SECONDS": "2"},
    "results kept as long as requests wait": {
        "PAGES_RETENTION_DAYS": "1",
        "WORKER_RETRY_DELAYS_SECONDS": "86280",
    },
    "equal timeouts": {"FETCH_CONNECT_TIMEOUT_SECONDS": "3", "FETCH_TOTAL_TIMEOUT_SECONDS": "3"},
    # In-flight pages that do not finish in time are delivered again, so this is no contradiction.
    "a grace shorter than a fetch": {"WORKER_SHUTDOWN_GRACE_SECONDS": "1"},
}


@pytest.mark.parametrize("given", AGREEMENTS.values(), ids=AGREEMENTS.keys())
def test_settings_that_just_agree_are_accepted(
    environment: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    load_settings()


def test_every_contradiction_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("WORKER_LEASE_SECONDS", "5")
    environment.setenv("BROKER_MAX_BACKOFF_SECONDS", "0.5")
    with pytest.raises(SystemExit) as end:
        load_settings()
    lines = str(end.value.code).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [
        "BROKER_INITIAL_BACKOFF_SECONDS",
        "WORKER_LEASE_SECONDS",
    ]


def test_every_bad_value_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LOG_LEVEL", "LOUD")
    environment.setenv("WORKER_CONCURRENCY", "0")
    with pytest.raises(SystemExit, match=r"(?s)WORKER_CONCURRENCY: .*LOG_LEVEL: "):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("BROKER_URL", "http://localhost", "must start with amqp:// or amqps://"),
        ("FETCH_DENIED_NETWORKS", "10.0.0.1/8", "10.0.0.1/8 has host bits set; write networks as "),
    ],
)
def test_a_message_says_what_would_be_accepted(
    environment: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        load_settings()
    (line,) = str(end.value.code).splitlines()[1:-1]
    assert line.startswith(f"  {name}: {says}")


def test_a_message_does_not_repeat_a_password(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKER_URL", "ampq://user:secret@localhost")
    with pytest.raises(SystemExit) as end:
        load_settings()
    assert "secret" not in str(end.value.code)


def test_the_process_ends_with_an_error_and_the_message_alone(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from app.runtime.settings import load_settings; load_settings()"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "LOG_LEVEL": "LOUD"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("The settings can't be used:\n  LOG_LEVEL: ")
    assert "Traceback" not in ended.stderr


def test_a_value_is_read_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKER_QUEUE_MAX_LENGTH", "5")
    assert load_settings().broker_queue_max_length == 5


def test_a_value_is_read_from_the_env_file_unless_the_environment_has_it(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("LOG_FORMAT=text\nWORKER_CONCURRENCY=3\nOF_ANOTHER=1\n")
    environment.setenv("WORKER_CONCURRENCY", "4")
    settings = load_settings()
    assert (settings.log_format, settings.worker_concurrency) == ("text", 4)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("WORKER_RETRY_DELAYS_SECONDS", "5", (5,)),
        ("WORKER_RETRY_DELAYS_SECONDS", " 1, 2.5 ,10,", (1, 2.5, 10)),
        ("FETCH_ALLOWED_PORTS", "80, 443,8080", {80, 443, 8080}),
        ("STORE_REDACTED_HEADERS", " X-Token,Set-Cookie, ", {"x-token", "set-cookie"}),
        ("FETCH_ALLOWED_NETWORKS", "", ()),
        (
            "FETCH_ALLOWED_NETWORKS",
            "127.0.0.0/8, ::1/128",
            (ip_network("127.0.0.0/8"), ip_network("::1")),
        ),
        ("FETCH_ALLOWED_NETWORKS", "192.0.2.1", (ip_network("192.0.2.1/32"),)),
        ("FETCH_DENIED_NETWORKS", "198.51.100.0/24", (ip_network("198.51.100.0/24"),)),
    ],
)
def test_a_list_is_separated_by_commas(
    environment: pytest.MonkeyPatch, name: str, value: str, read: Any
) -> None:
    environment.setenv(name, value)
    assert getattr(load_settings(), name.lower()) == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "amqps://user:secret@broker.example:5671/vhost?heartbeat=5"),
        ("DATABASE_URL", "mongodb+srv://user:secret@cluster.example/?tls=true"),
        ("BROKER_QUEUE_NAME", "t123.requests"),
        ("BROKER_QUEUE_TYPE", "classic"),
        ("FETCH_USER_AGENT", "Someone/1.0 (+https://example.com/)"),
    ],
)
def test_a_good_value_is_accepted_unchanged(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    assert getattr(load_settings(), name.lower()) == value


def test_settings_do_not_change(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.log_level = "DEBUG"  # type: ignore[misc]  # which is what is tried here


def test_the_four_backoff_settings_of_each_server_are_one_value(
    environment: pytest.MonkeyPatch,
) -> None:
    for server, values in {"BROKER": (1.5, 60, 3, 4), "DATABASE": (0.1, 5, 1, 2)}.items():
        names = (
            *("INITIAL_BACKOFF_SECONDS", "MAX_BACKOFF_SECONDS"),
            *("BACKOFF_MULTIPLIER", "MAX_CONNECTION_ATTEMPTS"),
        )
        for name, value in zip(names, values, strict=True):
            environment.setenv(f"{server}_{name}", str(value))
    settings = load_settings()
    assert settings.broker_backoff == Backoff(1.5, 60, 3, 4)
    assert settings.database_backoff == Backoff(0.1, 5, 1, 2)
