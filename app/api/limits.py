"""A bound on what a caller may send.

Starlette's own limit answers in plain text; here every error is problem details.
"""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 16 * 1024


class BodyLimit:
    """ASGI middleware that answers 413 to a body over 16 KiB, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what is read of its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._app(scope, _counting(receive, announced=_announced(scope)), send)


def _announced(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _counting(receive: Receive, *, announced: int) -> Receive:
    read = 0

    async def counted() -> Message:
        nonlocal read
        _refuse_too_large(announced)
        message = await receive()
        read += len(message.get("body", b""))
        _refuse_too_large(read)
        return message

    return counted


def _refuse_too_large(size: int) -> None:
    if size > MAX_BODY_BYTES:
        # An HTTPException passes through FastAPI's reading of the body as it is.
        raise HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {MAX_BODY_BYTES} bytes",
        )
