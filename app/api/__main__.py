"""The API process: `python -m app.api --host 0.0.0.0 --port 6577`."""

import argparse
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI
from loguru import logger

from app.api.protocol import BoundedProtocol

DEFAULT_PORT = 6577

STOP_TIMEOUT_SECONDS = 15
"""How long after SIGTERM requests that are under way may take: a POST to a slow broker and a slow
database takes 15 s. Then they are cancelled and the connections are closed, which takes up to 20 s
if the broker does not answer: the process ends within 35 s, whatever its clients do."""


def main() -> None:
    """Run the API under uvicorn until it is stopped."""
    options = _parser().parse_args()
    uvicorn.run(
        _application(options.host),
        host=options.host,
        port=options.port,
        log_config=None,  # `app/runtime/logs.py` has all records, uvicorn's too
        access_log=False,  # `RequestObserver` logs each request
        http=BoundedProtocol,
        ws="none",
        timeout_graceful_shutdown=STOP_TIMEOUT_SECONDS,
    )


def _application(host: str) -> FastAPI:
    """Return the application. Its signal handlers are to be in place before uvicorn's own."""
    from app.api.main import app  # noqa: PLC0415 (its import reads the settings)

    warn_if_open(app, host)
    return app


def warn_if_open(app: FastAPI, host: str) -> None:
    """Say so if strangers may use the API."""
    if not app.state.key_required and not _is_loopback(host):
        logger.warning("api_open_to_anyone", host=host, advice="set API_AUTH=required")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.api", description="Run the API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port to listen on (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    main()
