"""One log pipeline: every record of every library becomes one line in one format.

An event is a constant name and its data are fields: `logger.info("publish_success", url=url)`.
Records of the standard library's `logging` join as `event: "log"` with `logger` and `message`.
"""

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import uvicorn.config
from loguru import logger
from pydantic_core import to_json

if TYPE_CHECKING:
    from loguru import Message, Record

LogFormat = Literal["json", "text"]

_LIBRARIES = ("uvicorn", "uvicorn.error", "uvicorn.access", "faststream")

_TALKATIVE = ("aio_pika", "aiormq", "httpx", "httpcore", "pymongo", "asyncio", "uvicorn.access")


def configure_logging(*, service_name: str, level: str, log_format: LogFormat) -> None:
    """Send every record of this process to stdout in one format."""
    sink = _write_json if log_format == "json" else _write_text
    logger.configure(
        handlers=[{"sink": sink, "level": level, "format": "{message}", "catch": False}],
        extra={"service_name": service_name},
    )
    # Below WARNING these say for each frame or request what our own events say once.
    logging.basicConfig(handlers=[_Intercept()], level=logger.level(level).no, force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # uvicorn sets up its loggers anew for every server; with an empty table it leaves ours.
    uvicorn.config.LOGGING_CONFIG.update(formatters={}, handlers={}, loggers={})
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


class _Intercept(logging.Handler):
    """Hands records of the standard library over to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        bound = logger.bind(logger=record.name, message=record.getMessage())
        bound.opt(exception=record.exc_info).log(_known_level(record), "log")


def _known_level(record: logging.LogRecord) -> str | int:
    try:
        return logger.level(record.levelname).name
    except ValueError:
        return record.levelno


def _write_json(message: "Message") -> None:
    record = message.record
    fields = {
        "timestamp": _timestamp(record),
        "level": record["level"].name,
        "event": record["message"],
        **record["extra"],
        **_exception(record),
    }
    # pydantic's encoder: some times as fast as the standard library's, and it knows UUIDs.
    line = to_json(fields, fallback=str, inf_nan_mode="constants").decode()
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


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
    lines = [" ".join(words).rstrip(), *_exception(record).values()]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _timestamp(record: "Record") -> str:
    return record["time"].isoformat(timespec="milliseconds")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _exception(record: "Record") -> Mapping[str, Any]:
    exception = record["exception"]
    if exception is None:
        return {}
    return {"exception": "".join(traceback.format_exception(exception.value)).rstrip()}
