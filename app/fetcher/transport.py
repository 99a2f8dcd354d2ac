"""httpx over httpcore with a connection for each request, and none kept.

A pool would be slower (its bookkeeping grows with the number of connections) and would let one
page's connection serve another's request.
"""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import httpcore
import httpx

from app.fetcher.stream import SocketStream

RawHeaders = list[tuple[bytes, bytes]]


class OneShotTransport(httpx.AsyncBaseTransport):
    """Sends each request over a connection of its own, made by `backend`."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, ssl_context: ssl.SSLContext) -> None:
        self._backend = backend
        self._ssl_context = ssl_context
        ssl_context.set_alpn_protocols(["http/1.1"])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response with its body unread.

        Raises what httpcore, ssl and the backend raise.
        """
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        stream = await self._connect(url.origin, request.extensions["timeout"]["connect"])
        connection = httpcore.AsyncHTTP11Connection(url.origin, stream)
        try:
            answer = await connection.handle_async_request(
                httpcore.Request(
                    request.method, url, headers=request.headers.raw, extensions=request.extensions
                )
            )
        except BaseException:  # cancelled before it has taken the connection into its care
            await stream.aclose()
            raise
        return httpx.Response(
            answer.status,
            headers=_with_one_location(answer.headers),
            stream=_Body(connection, answer),
            extensions=answer.extensions,
        )

    async def _connect(
        self, origin: httpcore.Origin, timeout_seconds: float
    ) -> httpcore.AsyncNetworkStream:
        host = origin.host.decode("ascii")
        stream = await self._backend.connect_tcp(host, origin.port, timeout_seconds)
        if origin.scheme != b"https":
            return stream
        return await stream.start_tls(self._ssl_context, host.rstrip("."), timeout_seconds)


def _with_one_location(headers: RawHeaders) -> RawHeaders:
    """Leave one of equal `Location`s and none of different ones; httpx would join them.

    Where they differ nobody knows where it leads, and the answer is taken as it is.
    """
    locations = [header for header in headers if header[0].lower() == b"location"]
    if len(locations) < 2:  # noqa: PLR2004
        return headers
    others = [header for header in headers if header not in locations]
    return others + locations[:1] if len({value for _, value in locations}) == 1 else others


def connection_of(response: httpx.Response) -> SocketStream:
    """Return the connection that a response of `OneShotTransport` came over."""
    return cast(SocketStream, response.extensions["network_stream"])


class _Body(httpx.AsyncByteStream):
    """The body of a response, with the connection that is closed after it."""

    def __init__(
        self, connection: httpcore.AsyncHTTP11Connection, response: httpcore.Response
    ) -> None:
        self._connection = connection
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _cut_told_from_garbage(self._response.extensions["network_stream"]):
            async for chunk in self._response.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        await self._connection.aclose()


@contextmanager
def _cut_told_from_garbage(stream: SocketStream) -> Iterator[None]:
    """Raise `ConnectionResetError` where httpcore complains about a body that ended too soon."""
    try:
        yield
    except httpcore.RemoteProtocolError as exc:
        if stream.at_end:
            raise ConnectionResetError("the connection ended within the body") from exc
        raise
