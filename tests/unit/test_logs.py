"""Logs: every record of every library becomes one line, in one format."""

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

import pytest
import uvicorn
from dirty_equals import IsDatetime, IsStr
from loguru import logger

from app.models import PageStatus
from app.runtime.logs import LogFormat, configure_logging
from tests.fakes import URL

pytestmark = pytest.mark.usefixtures("restored_logging")

Written = Callable[[], list[str]]
REQUEST_ID = UUID("6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11")


def configure(level: str = "INFO", log_format: LogFormat = "json") -> None:
    configure_logging(service_name="api", level=level, log_format=log_format)


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Written:
    """Lines written to stdout so far; nothing may have gone to stderr."""

    def read() -> list[str]:
        output = capsys.readouterr()
        assert output.err == ""
        return output.out.splitlines()

    return read


def only(lines: list[str]) -> Any:
    (line,) = lines
    return json.loads(line)


def fail() -> NoReturn:
    raise ValueError("too bad")


def test_an_event_is_one_line_of_json_with_its_fields(written: Written) -> None:
    configure()
    logger.info("publish_success", request_id=REQUEST_ID, url=URL, latency_ms=1.5)
    assert only(written()) == {
        "timestamp": IsDatetime(iso_string=True),
        "level": "INFO",
        "event": "publish_success",
        "service_name": "api",
        "request_id": str(REQUEST_ID),
        "url": URL,
        "latency_ms": 1.5,
    }


def test_the_records_of_libraries_have_no_keys(written: Written) -> None:
    configure()
    logging.getLogger("uvicorn.error").warning("GET /?key=%s", f"pm_0123456789ab_{64 * '0'}")
    assert only(written())["message"] == "GET /?key=pm_0123456789ab_REDACTED"


def test_a_timestamp_says_its_zone(written: Written) -> None:
    configure()
    logger.info("api_started")
    assert datetime.fromisoformat(only(written())["timestamp"]).tzinfo is not None


def test_the_fields_that_every_line_has_come_first(written: Written) -> None:
    configure()
    logger.info("api_started", reason="none")
    assert list(only(written())) == ["timestamp", "level", "event", "service_name", "reason"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param(PageStatus.COMPLETED, "COMPLETED", id="a status"),
        pytest.param(None, None, id="nothing"),
        pytest.param("a\nb", "a\nb", id="several lines"),
        pytest.param("{braces} <red>", "{braces} <red>", id="what looks like a format"),
        pytest.param("é", "é", id="a letter that is not ASCII"),
        pytest.param(ValueError("x"), "x", id="anything else, as text"),
    ],
)
def test_a_field_is_kept_as_it_is(written: Written, value: object, kept: object) -> None:
    configure()
    logger.info("some_event", reason=value)
    assert only(written())["reason"] == kept


def test_a_field_that_is_bound_once_is_in_every_event_of_the_block(written: Written) -> None:
    configure()
    with logger.contextualize(request_id=REQUEST_ID, attempt=2):
        logger.info("message_received")
        logger.bind(url=URL).info("fetch_started")
    first, second = map(json.loads, written())
    assert first["request_id"] == second["request_id"] == str(REQUEST_ID)
    assert "url" not in first
    assert second["url"] == URL


def test_an_exception_is_a_field_of_its_line(written: Written) -> None:
    configure()
    try:
        fail()
    except ValueError as exc:
        logger.opt(exception=exc).error("unhandled_error", path="/metadata")
    assert only(written()) == {
        "timestamp": IsStr,
        "level": "ERROR",
        "event": "unhandled_error",
        "service_name": "api",
        "path": "/metadata",
        "exception": IsStr(regex=r"(?s)Traceback .*test_logs\.py.*ValueError: too bad"),
    }


@pytest.mark.parametrize(
    "name", ["uvicorn", "uvicorn.error", "faststream", "faststream.rabbit", "own"]
)
def test_records_of_libraries_become_log_events(written: Written, name: str) -> None:
    configure()
    logging.getLogger(name).info("%s of %d", "one", 2)
    assert only(written()) == {
        "timestamp": IsDatetime(iso_string=True),
        "level": "INFO",
        "event": "log",
        "service_name": "api",
        "logger": name,
        "message": "one of 2",
    }


@pytest.mark.parametrize("name", ["aio_pika", "aio_pika.robust_connection", "aiormq", "pymongo"])
def test_of_libraries_that_log_each_frame_only_warnings_are_kept(
    written: Written, name: str
) -> None:
    configure(level="DEBUG")
    logging.getLogger(name).info("a frame")
    logging.getLogger(name).warning("trouble")
    assert only(written()) == {
        "timestamp": IsStr,
        "level": "WARNING",
        "event": "log",
        "service_name": "api",
        "logger": name,
        "message": "trouble",
    }


def test_an_exception_of_a_library_is_a_field_of_its_line(written: Written) -> None:
    configure()
    try:
        fail()
    except ValueError:
        logging.getLogger("faststream").exception("it failed")
    line = only(written())
    assert (line["level"], line["message"]) == ("ERROR", "it failed")
    assert line["exception"].endswith("ValueError: too bad")


def test_a_level_that_loguru_does_not_know_is_kept_as_its_number(written: Written) -> None:
    configure()
    logging.getLogger("own").log(35, "odd")
    assert only(written())["level"] == "Level 35"


def test_braces_in_a_message_of_a_library_are_kept_as_they_are(written: Written) -> None:
    configure()
    logging.getLogger("own").warning("{nothing} {0} <blue>")
    assert only(written())["message"] == "{nothing} {0} <blue>"


def test_events_below_the_level_are_not_written(written: Written) -> None:
    configure(level="WARNING")
    logger.info("fetch_started")
    logging.getLogger("uvicorn.error").info("Started server process")
    assert written() == []


@pytest.mark.parametrize(
    "level",
    [
        "TRACE",
        "DEBUG",
        "INFO",
        "WARNING",
        "ERROR",
        "CRITICAL",
    ],
)
def test_every_level_of_the_setting_works(written: Written, level: str) -> None:
    configure(level=level)
    logger.log(level, "some_event")
    assert only(written())["level"] == level


@pytest.mark.parametrize("log_level", [None, logging.INFO], ids=["uvicorn", "faststream run"])
def test_records_of_a_uvicorn_that_configures_its_own_loggers_become_log_events(
    written: Written, log_level: int | None
) -> None:
    configure()
    uvicorn.Config(app="nothing:nothing", log_level=log_level)  # calls logging's dictConfig()
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).info("Started server process")
    lines = [json.loads(line) for line in written()]
    assert [line["message"] for line in lines] == ["Started server process"] * 3


def test_uvicorn_does_not_log_requests_because_we_do(written: Written) -> None:
    configure()
    uvicorn.Config(app="nothing:nothing", log_level=logging.INFO)
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert written() == []


def test_configuring_twice_writes_each_event_once(written: Written) -> None:
    configure()
    configure()
    logger.info("api_started")
    logging.getLogger("uvicorn").info("hello")
    assert len(written()) == 2


def test_an_event_as_text_is_one_line(written: Written) -> None:
    configure(log_format="text")
    logger.bind(url=URL).warning("publish_failed", reason="queue_rejected", latency_ms=12.0)
    (line,) = written()
    assert line == IsStr(
        regex=r"\d\d:\d\d:\d\d\.\d{3} WARNING  api    publish_failed +"
        r"url=https://example.com/ reason=queue_rejected latency_ms=12"
    )


def test_an_event_without_fields_ends_with_its_name_in_text(written: Written) -> None:
    configure(log_format="text")
    logger.info("api_started")
    assert written() == [IsStr(regex=r".*INFO     api    api_started")]


def test_a_traceback_follows_its_line_in_text(written: Written) -> None:
    configure(log_format="text")
    try:
        fail()
    except ValueError:
        logger.exception("unhandled_error")
    first, *traceback = written()
    assert first.endswith("unhandled_error")
    assert traceback[0].startswith("Traceback")
    assert traceback[-1] == "ValueError: too bad"
