"""One log pipeline: every record of every library becomes one line in one format.

An event is a constant name and its data are fields: `logger.info("publish_success", url=url)`.
Records of the standard library's `logging` join as `event: "log"` with `logger` and `message`.
"""

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Literal

from loguru import logger
from pydantic_core import to_json

from app.keys import without_keys

if TYPE_CHECKING:
    from loguru import Message, RecordException

LogFormat = Literal["json", "text"]

_TALKATIVE = ("aio_pika", "aiormq", "httpx", "httpcore", "pymongo", "asyncio")
"""Below WARNING these log each frame or request; our own events say once what came of it."""

_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


def configure_logging(*, service_name: str, level: str, log_format: LogFormat) -> None:
    """Send every record of this process to stdout in one format."""
    sink = _write_json if log_format == "json" else _write_text
    logger.configure(
        handlers=[{"sink": sink, "level": level, "format": "{message}", "catch": False}],
        extra={"service_name": service_name},
    )
    logging.basicConfig(handlers=[_ToLoguru()], level=logger.level(level).no, force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # FastStream gives its logger a handler when it is imported.
    logging.getLogger("faststream").handlers.clear()
    logging.getLogger("faststream").propagate = True
    # uvicorn replaces the handlers, and the levels, of its loggers when a server is made, which
    # `faststream run` does after this. Filters are left in place, so a filter takes the records.
    for name in _UVICORN:
        logging.getLogger(name).addFilter(_take_from_uvicorn)


class _ToLoguru(logging.Handler):
    """Hands records of the standard library over to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        # At level TRACE uvicorn logs the target of each request as it was sent.
        message = without_keys(record.getMessage())
        bound = logger.bind(logger=record.name, message=message)
        bound.opt(exception=record.exc_info).log(_known_level(record), "log")


def _take_from_uvicorn(record: logging.LogRecord) -> bool:
    """Hand a record over to loguru; no handler of uvicorn's is to see it."""
    # One line for each request: `RequestObserver` logs the API's, and probes of a worker are many.
    if record.name != "uvicorn.access":
        _ToLoguru().emit(record)
    return False


def _known_level(record: logging.LogRecord) -> str | int:
    """Return a level that loguru takes: its own name for it, or a number."""
    try:
        return logger.level(record.levelname).name
    except ValueError:
        return record.levelno


def _write_json(message: "Message") -> None:
    record = message.record
    fields = {
        "timestamp": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "event": record["message"],
        **record["extra"],
    }
    if record["exception"]:
        fields["exception"] = _traceback(record["exception"])
    # pydantic's encoder is several times as fast as the standard library's, and takes UUIDs.
    line = to_json(fields, fallback=str, inf_nan_mode="constants")
    # Bytes go past the text layer, which would encode them once more.
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _write_text(message: "Message") -> None:
    record = message.record
    fields = {name: value for name, value in record["extra"].items() if name != "service_name"}
    words = [
        f"{record['time']:HH:mm:ss.SSS}",
        f"{record['level'].name:<8}",
        f"{record['extra'].get('service_name', '-'):<6}",
        f"{record['message']:<26}",
        *(f"{name}={_plain(value)}" for name, value in fields.items()),
    ]
    lines = [" ".join(words).rstrip()]
    if record["exception"]:
        lines.append(_traceback(record["exception"]))
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _traceback(exception: "RecordException") -> str:
    return "".join(traceback.format_exception(exception.value)).rstrip()
