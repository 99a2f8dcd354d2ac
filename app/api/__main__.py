"""The API process: `python -m app.api --host 0.0.0.0 --port 6577`."""

import argparse

import uvicorn

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
        "app.api.main:app",
        host=options.host,
        port=options.port,
        log_config=None,  # `app/runtime/logs.py` has all records, uvicorn's too
        access_log=False,  # `RequestObserver` logs each request
        http=BoundedProtocol,
        ws="none",
        timeout_graceful_shutdown=STOP_TIMEOUT_SECONDS,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.api", description="Run the API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port to listen on (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    main()
