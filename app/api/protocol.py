"""HTTP between uvicorn and one client, within bounds: `python -m app.api` has uvicorn use it.

uvicorn has no options for these bounds (https://github.com/Kludex/uvicorn/issues/157), so this
subclass leans on what uvicorn 0.54 does not document: `HttpToolsProtocol` receives the callbacks
of its httptools parser (`on_message_begin`, `on_url`, `on_header`, `on_body`,
`on_message_complete`) and answers what cannot be parsed by `send_400_response`. If that changes,
`tests/integration/test_api_bounds.py` fails. Options for the size of a head and for the time of a
request and of an answer would make it superfluous.
"""

import asyncio
from asyncio import Transport
from collections.abc import Callable
from functools import partial
from typing import Any

from loguru import logger
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
RECEIVE_TIMEOUT_SECONDS = 30.0
SEND_TIMEOUT_SECONDS = 30.0

HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Connection: close\r\n"
    b"Content-Length: 0\r\n"
    b"\r\n"
)


class HeadTooLarge(Exception):
    """Ends the parsing of a request whose head is too large."""


class BoundedProtocol(HttpToolsProtocol):
    """Bounds the size of a head, the time a request may take to arrive, and that of an answer.

    A request has to be complete `RECEIVE_TIMEOUT_SECONDS` after its first byte; the first is timed
    from when the connection opened. What has been written has to be
    accepted by the client within `SEND_TIMEOUT_SECONDS`. Otherwise the connection is cut, which
    frees what it holds.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiving = Deadline(RECEIVE_TIMEOUT_SECONDS, partial(self._cut, "receive"))
        self._sending = Deadline(SEND_TIMEOUT_SECONDS, partial(self._cut, "send"))
        self._head_bytes = 0
        self._unparsed_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Start the clock of the first request."""
        super().connection_made(transport)
        # Have `pause_writing()` called as soon as any byte waits for the client to accept it.
        transport.set_write_buffer_limits(high=0)
        self._receiving.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both clocks."""
        self._receiving.stop()
        self._sending.stop()
        super().connection_lost(exc)

    # --- How long a request and its answer may take ---

    def on_message_begin(self) -> None:
        """Start the clock of a request, unless it runs since the connection was made."""
        super().on_message_begin()
        self._head_bytes = 0
        self._receiving.start()

    def on_message_complete(self) -> None:
        """Stop the clock of a request: it is complete."""
        self._receiving.stop()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the clock of the client, which has not accepted all that was written."""
        super().pause_writing()
        self._sending.start()

    def resume_writing(self) -> None:
        """Stop the clock of the client, which has accepted everything."""
        self._sending.stop()
        super().resume_writing()

    def _cut(self, reason: str) -> None:
        logger.info("client_timed_out", reason=reason, client=(self.client or (None,))[0])
        self.transport.abort()

    # --- How large a head may be ---

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; refuse a header that grows without end."""
        self._unparsed_bytes += len(data)
        super().data_received(data)
        # httptools keeps an unfinished header to itself until it is complete.
        if self._unparsed_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_url(self, url: bytes) -> None:
        """Count a part of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body, whose size `BodyLimit` bounds."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def _count(self, size: int) -> None:
        self._unparsed_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed: a `HeadTooLarge` ends here too."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        self.transport.write(HEAD_TOO_LARGE)
        self.transport.close()


class Deadline:
    """Calls `expire` so many seconds after it was started, unless it is stopped before."""

    def __init__(self, seconds: float, expire: Callable[[], None]) -> None:
        self._seconds = seconds
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the clock, if it does not run already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def stop(self) -> None:
        """Stop the clock; the next `start()` begins from zero."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
