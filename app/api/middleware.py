"""ASGI middleware around every request: its id, its log line and metric, the size of its body."""

from time import perf_counter
from uuid import UUID, uuid4

from loguru import logger
from opentelemetry.trace import get_current_span
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import BODY_TOO_LARGE, KEY_IN_URL, Refusal
from app.keys import without_keys
from app.runtime.metrics import REQUEST_SECONDS

HEADER = "X-Request-ID"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestObserver:
    """Gives every request an id; times, counts and logs every answer.

    An answer also gets the `more_headers` of the ASGI scope, whoever answers.

    The id is the `X-Request-ID` that the caller sent, if that is a UUID, else a new one. It is
    in the answer, in `scope["request_id"]`, in the request's span and in every line that is
    logged while the request is handled.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and observe its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)
        get_current_span().set_attribute("request_id", str(request_id))
        status = 500  # unless the application answers something else

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = str(request_id)
                headers.raw.extend(scope.get("more_headers", ()))
            await send(message)

        started = perf_counter()
        with logger.contextualize(request_id=request_id):
            app = _refuse_key_in_url if "has_key_in_url" in scope else self._app
            try:
                await app(scope, receive, send_observed)
            finally:
                _record(scope, status, perf_counter() - started)


async def _refuse_key_in_url(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 400."""
    await KEY_IN_URL.answer(KEY_IN_URL.fixed_detail)(scope, receive, send)


def _record(scope: Scope, status: int, seconds: float) -> None:
    # A caller that waits on purpose says nothing of how fast the service is.
    worked = seconds - scope.get("waited_seconds", 0)
    REQUEST_SECONDS.labels(_method(scope), _route(scope), str(status)).observe(worked)
    log = logger.bind(key_id=scope["key_id"]) if "key_id" in scope else logger
    log.info(
        "request_answered",
        method=scope["method"],
        target=_target(scope),
        client=(scope.get("client") or (None,))[0],
        status_code=status,
        latency_ms=round(seconds * 1000, 1),
    )


def _request_id(scope: Scope) -> UUID:
    try:
        return UUID(Headers(scope=scope)[HEADER])
    except (KeyError, ValueError):
        return uuid4()


def _target(scope: Scope) -> str:
    """Return path and query as the caller sent them."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    target: bytes = path + b"?" + query if query else path
    return target.decode("ascii", "replace")


def _method(scope: Scope) -> str:
    """Return the method. Callers may invent methods without end: unknown ones are "other"."""
    method: str = scope["method"]
    return method if method in _METHODS else "other"


def _route(scope: Scope) -> str:
    """Return the route's template. Unmatched paths are unbounded: all of them are "other"."""
    path: str = getattr(scope.get("route"), "path", "other")
    return path


MAX_BODY_BYTES = 16 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024

_MAX_BYTES_OF = {"/metadata/batch": MAX_BATCH_BYTES}


class BodyLimit:
    """Answers 413 to a body over 16 KiB, or 4 MiB of a batch, whether its length was told or not.

    FastAPI has such a limit too (`max_body_size`), but answers in plain text where all other
    errors are problem details.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count what is read of its body."""
        if scope["type"] == "http":
            most = _MAX_BYTES_OF.get(own_path(scope), MAX_BODY_BYTES)
            receive = _counting(receive, announced=announced_length(scope), most=most)
        await self._app(scope, receive, send)


def own_path(scope: Scope) -> str:
    """Return the path of a request without the prefix below which the API is served, if any."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def announced_length(scope: Scope) -> int:
    """Return the length of a body as the head of the request tells it; 0 if it does not."""
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _counting(receive: Receive, *, announced: int, most: int) -> Receive:
    read = 0

    async def receive_counted() -> Message:
        nonlocal read
        _refuse_above(most, announced)
        message = await receive()
        read += len(message.get("body", b""))
        _refuse_above(most, read)
        return message

    return receive_counted


def _refuse_above(most: int, size: int) -> None:
    if size > most:
        # FastAPI reports other exceptions during its reading of the body as a malformed body.
        raise Refusal(BODY_TOO_LARGE, f"the body is larger than {most} bytes")


def blot_out_keys(scope: Scope) -> None:
    """Take API keys out of path and query of a request, and note that there was one.

    Logs and traces would keep them. `RequestObserver` refuses the request.
    """
    query, path = scope["query_string"].decode("latin-1"), scope["path"]
    blotted_query, blotted_path = without_keys(query), without_keys(path)
    if (query, path) != (blotted_query, blotted_path):
        scope["query_string"] = blotted_query.encode("latin-1")
        scope["path"] = blotted_path
        scope.pop("raw_path", None)
        scope["has_key_in_url"] = True
