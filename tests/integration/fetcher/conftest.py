import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any, Protocol

import httpx
import pytest
import trustme

from app.fetcher.client import HttpFetcher

from .hostile import Converse, HostileServer, replying, running

# The one address that fetchers under test may reach; all others stand for the inside.
ALLOWED = "127.0.0.1"
INSIDE = "127.0.0.2"


class Serve(Protocol):
    async def __call__(
        self, converse: Converse, address: str = ALLOWED, tls: ssl.SSLContext | None = None
    ) -> HostileServer: ...


class MakeFetcher(Protocol):
    async def __call__(self, **changes: Any) -> HttpFetcher: ...


class Names:
    """A resolver: each name has a list of answers, of which the last one is repeated.

    A name without answers does not exist.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack: AsyncExitStack) -> Serve:
    async def start(
        converse: Converse, address: str = ALLOWED, tls: ssl.SSLContext | None = None
    ) -> HostileServer:
        return await stack.enter_async_context(running(converse, address, tls))

    return start


@pytest.fixture(scope="session")
def usual_certificates() -> ssl.SSLContext:
    """What a fetcher trusts by default, read once: that takes 20 ms of CPU time."""
    return httpx.create_ssl_context(trust_env=False)


@pytest.fixture
def make_fetcher(stack: AsyncExitStack, usual_certificates: ssl.SSLContext) -> MakeFetcher:
    async def make(**changes: Any) -> HttpFetcher:
        settings: dict[str, Any] = {
            "connect_timeout_seconds": 1,
            "total_timeout_seconds": 5,
            "max_body_bytes": 100_000,
            "max_redirects": 5,
            "user_agent": "page-metadata/1.0 (+https://example.com/bot)",
            "allowed_ports": frozenset({80, 443}),
            "allowed_networks": (ip_network(ALLOWED),),
            "per_host_concurrency": 0,
            "respect_robots": False,
            "ssl_context": usual_certificates,
        }
        fetcher = HttpFetcher(**settings | changes)
        stack.push_async_callback(fetcher.aclose)
        return fetcher

    return make


@pytest.fixture
async def fetcher(make_fetcher: MakeFetcher) -> HttpFetcher:
    return await make_fetcher()


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
async def sink(stack: AsyncExitStack) -> HostileServer:
    """A server on the inside: nobody may call it."""
    return await stack.enter_async_context(running(replying(b""), INSIDE))


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(ca: trustme.CA) -> ssl.SSLContext:
    """Trusts the certificates of `ca`, and no others."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def tls(ca: trustme.CA) -> ssl.SSLContext:
    """A server's certificate for `*.test` and the allowed address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("page.test", "*.page.test", ALLOWED).configure_cert(context)
    return context
