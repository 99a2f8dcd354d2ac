import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
import trustme

from app.errors import FetchError
from app.fetcher.client import HttpFetcher
from app.models import ErrorKind

from .conftest import ALLOWED, MakeFetcher, Names, Serve
from .hostile import chunked, redirect, replying, response, routing

UNTRUSTED = trustme.CA()
Handshake = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def failure(fetcher: HttpFetcher, url: str) -> tuple[ErrorKind, bool]:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(url)
    return caught.value.kind, caught.value.retryable


@pytest.fixture
async def fetcher(make_fetcher: MakeFetcher, names: Names, trusting: ssl.SSLContext) -> HttpFetcher:
    names.answers = {
        name: [[ALLOWED]] for name in ("page.test", "www.page.test", "other.test", "page.test.")
    }
    return await make_fetcher(resolve=names, ssl_context=trusting)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize("host", ["page.test", "www.page.test", "page.test.", ALLOWED])
async def test_a_page_is_fetched_over_tls(
    fetcher: HttpFetcher, serve: Serve, tls: ssl.SSLContext, host: str
) -> None:
    server = await serve(replying(chunked(b"hello")), tls=tls)
    page = await fetcher.fetch(server.url(host=host))
    assert (page.page_source, page.remote_address) == ("hello", ALLOWED)


async def test_host_and_server_name_are_those_of_the_url(
    fetcher: HttpFetcher, serve: Serve, ca: trustme.CA
) -> None:
    asked: list[str | None] = []
    context = server_context(ca.issue_cert("page.test"))
    context.sni_callback = lambda _, name, __: asked.append(name)
    server = await serve(replying(response(b"hello")), tls=context)
    await fetcher.fetch(server.url(host="page.test"))

    assert asked == ["page.test"]
    assert server.requests[0].headers["host"] == f"page.test:{server.port}"


async def test_large_pages_and_redirects_go_over_tls_too(
    fetcher: HttpFetcher, serve: Serve, tls: ssl.SSLContext
) -> None:
    big = response(b"x" * 150_000)
    server = await serve(routing(index=redirect("/big"), big=big), tls=tls)
    page = await fetcher.fetch(server.url(host="page.test"))
    assert (page.body_bytes, page.page_source_truncated, len(page.redirects)) == (100_000, True, 1)


async def test_a_certificate_for_another_name_is_refused_for_good(
    fetcher: HttpFetcher, serve: Serve, ca: trustme.CA
) -> None:
    server = await serve(replying(response(b"")), tls=server_context(ca.issue_cert("other.test")))
    assert await failure(fetcher, server.url(host="page.test")) == (ErrorKind.TLS, False)
    assert server.requests == []


async def test_a_certificate_of_an_unknown_issuer_is_refused_for_good(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    certificate = UNTRUSTED.issue_cert("page.test")
    server = await serve(replying(response(b"")), tls=server_context(certificate))
    assert await failure(fetcher, server.url(host="page.test")) == (ErrorKind.TLS, False)
    assert server.requests == []


async def test_a_self_signed_certificate_is_refused_by_default(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    fetcher = await make_fetcher()
    server = await serve(replying(response(b"")), tls=server_context(UNTRUSTED.issue_cert(ALLOWED)))
    with pytest.raises(FetchError, match="certificate does not verify: ") as caught:
        await fetcher.fetch(server.url())
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.TLS, False)


async def test_an_expired_certificate_is_refused(
    fetcher: HttpFetcher, serve: Serve, ca: trustme.CA
) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = ca.issue_cert("page.test", not_before=past, not_after=past)
    server = await serve(replying(response(b"")), tls=server_context(certificate))
    assert await failure(fetcher, server.url(host="page.test")) == (ErrorKind.TLS, False)


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def talk_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(response(b"hello"))
    await cut(reader, writer)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("handshake", "kind", "retryable"),
    [
        (talk_plainly, ErrorKind.TLS, False),
        (cut, ErrorKind.CONNECT, True),
        (say_nothing, ErrorKind.TIMEOUT, True),
    ],
)
async def test_a_handshake_that_fails_says_how(
    make_fetcher: MakeFetcher, handshake: Handshake, kind: ErrorKind, *, retryable: bool
) -> None:
    fetcher = await make_fetcher(connect_timeout_seconds=0.2)
    async with await asyncio.start_server(handshake, ALLOWED, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(3):  # less than the deadline of the whole
            assert await failure(fetcher, f"https://{ALLOWED}:{port}/") == (kind, retryable)
