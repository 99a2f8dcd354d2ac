"""Fetch one page.

The story, from top to bottom:

    HttpFetcher.fetch      one page: one deadline, one cookie jar, nothing kept afterwards
      _follow              answer after answer, until one is no redirect
        check_url          is this a URL that is fetched at all?                guard.py
        Robots.check       does its host want it fetched?                       robots.py
        _conditions        is it the URL that gave the validators? send them back
        Transport.get      connect, send the request, read the head             transport.py
          Connector        turns at the host, its pace, resolver, guard, TLS    connection.py
          read_head        status and headers                                   head.py
          read_framed      where the body ends                                  framing.py
        read_hop           where it leads, or its body up to the limit   redirects.py, body.py
      ContentReader.read   what the body says                            charset.py
      page_from            what was seen, as the record has it           page.py, cookies.py
    translated             what goes wrong is a `FetchError` or `HostBusy`      faults.py
"""

import asyncio
import ssl
from datetime import UTC, datetime
from http import HTTPStatus
from time import perf_counter
from typing import overload

import httpx

from app.errors import FetchError
from app.fetcher.connection import Connector
from app.fetcher.decoding import ACCEPT_ENCODING
from app.fetcher.faults import translated
from app.fetcher.guard import Guard, Network, check_url
from app.fetcher.page import ContentReader, Hop, page_from, read_hop
from app.fetcher.redirects import CookieJar
from app.fetcher.resolver import Resolve, Resolver
from app.fetcher.robots import MAX_ROBOTS_BYTES, Robots
from app.fetcher.transport import RequestHeaders, Transport
from app.models import ErrorKind, NotModified, PageMetadata, Validators


class HttpFetcher:
    """Fetches pages; safe to use from many tasks at once.

    `total_timeout_seconds` bounds one page from its beginning to the last byte of its body, with
    all redirects. `connect_timeout_seconds` bounds each name resolution, each dialling and each
    TLS handshake. A body that is still coming at the deadline is an error, whatever has been
    received of it. A body that goes on past `max_body_bytes` (decoded) is a result, cut there.
    Without `conditional` no validators are sent. At most `per_host_per_minute` pages are fetched of
    one host in a minute (0: any number); a page counts once for each host on its way.

    `ssl_context` and `resolve` replace certifi's certificates and the system's resolver.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own, and named by the caller
        self,
        *,
        connect_timeout_seconds: float,
        total_timeout_seconds: float,
        max_body_bytes: int,
        max_redirects: int,
        user_agent: str,
        allowed_ports: frozenset[int],
        allowed_networks: tuple[Network, ...],
        per_host_concurrency: int,
        respect_robots: bool,
        per_host_per_minute: int = 0,
        conditional: bool = True,
        denied_networks: tuple[Network, ...] = (),
        ssl_context: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._total_timeout_seconds = total_timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._max_redirects = max_redirects
        self._conditional = conditional
        self._resolver = Resolver(connect_timeout_seconds)
        connector = Connector(
            Guard(allowed_ports, allowed_networks, denied_networks),
            resolve or self._resolver,
            ssl_context or httpx.create_ssl_context(trust_env=False),
            timeout_seconds=connect_timeout_seconds,
            per_host=per_host_concurrency,
            per_minute=per_host_per_minute,
        )
        self._transport = Transport(
            connector,
            [
                ("User-Agent", user_agent),
                ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
                ("Accept-Encoding", ACCEPT_ENCODING),
                ("Connection", "close"),
            ],
        )
        self._contents = ContentReader()
        self._robots = Robots(user_agent, self._robots_txt) if respect_robots else None

    async def aclose(self) -> None:
        """Close the resolver; to be called when no fetch is under way."""
        await self._resolver.close()

    @overload
    async def fetch(self, url: str, validators: None = None) -> PageMetadata: ...

    @overload
    async def fetch(
        self, url: str, validators: Validators | None
    ) -> PageMetadata | NotModified: ...

    async def fetch(
        self, url: str, validators: Validators | None = None
    ) -> PageMetadata | NotModified:
        """Return what the server at the end of `url` and its redirects sent.

        Any HTTP status is a result. `NotModified` is one only where `validators` were sent. Raises
        `FetchError`, or `HostBusy` if it got no connection to a host, or none may be made now.
        """
        validators = validators if self._conditional else None
        fetched_at, started = datetime.now(UTC), perf_counter()
        with translated():
            async with asyncio.timeout(self._total_timeout_seconds):
                hops = await self._follow(url, self._max_body_bytes, self._robots, validators)
            elapsed_ms = (perf_counter() - started) * 1000
            if hops[-1].head.status_code == HTTPStatus.NOT_MODIFIED:
                return NotModified(round(elapsed_ms, 1))
            content = await self._contents.read(hops[-1])
            return page_from(hops, content, elapsed_ms=elapsed_ms, fetched_at=fetched_at)

    async def _follow(
        self,
        url: str,
        max_body_bytes: int,
        robots: Robots | None,
        validators: Validators | None = None,
        *,
        is_page: bool = True,
    ) -> list[Hop]:
        """Return every answer on the way from `url` to one that is no redirect."""
        hops: list[Hop] = []
        cookies = CookieJar()
        target: httpx.URL | None = httpx.URL(url)
        while target:
            self._refuse_too_many(hops)
            check_url(target)
            if robots:
                await robots.check(target)
            conditions = _conditions(target, validators)
            # A host counts once: a page with more redirects than fetches may begin in a minute
            # would else never be fetched. A robots.txt does not count, as it is kept for an hour.
            begins = is_page and not _has_been_at(target, hops)
            hops.append(
                await self._visit(target, cookies, conditions, max_body_bytes, begins=begins)
            )
            target = hops[-1].leads_to
        return hops

    async def _visit(
        self,
        url: httpx.URL,
        cookies: CookieJar,
        conditions: RequestHeaders,
        max_body_bytes: int,
        *,
        begins: bool,
    ) -> Hop:
        headers = [*cookies.header_for(url), *conditions]
        async with self._transport.get(url, headers, begins=begins) as response:
            if response.head.status_code == HTTPStatus.NOT_MODIFIED and not conditions:
                message = "the server answered 304 to a request without validators"
                raise FetchError(ErrorKind.INVALID_RESPONSE, message, retryable=False)
            cookies.keep(url, response.head.headers)
            return await read_hop(url, response, max_body_bytes)

    def _refuse_too_many(self, hops: list[Hop]) -> None:
        if len(hops) > self._max_redirects:
            message = f"more than {self._max_redirects} redirects"
            raise FetchError(ErrorKind.TOO_MANY_REDIRECTS, message, retryable=False)

    async def _robots_txt(self, url: str) -> tuple[int, str]:
        """Return status and text of a robots.txt, fetched as a page is."""
        with translated():
            *_, hop = await self._follow(url, MAX_ROBOTS_BYTES, robots=None, is_page=False)
        return hop.head.status_code, hop.body.content.decode("utf-8-sig", "replace")


def _has_been_at(url: httpx.URL, hops: list[Hop]) -> bool:
    """Say whether one of the answers so far came from the host of `url`."""
    return any(hop.url.raw_host == url.raw_host for hop in hops)


def _conditions(url: httpx.URL, validators: Validators | None) -> RequestHeaders:
    """Return the headers that ask for the page only if it has changed (RFC 9110, 13.1).

    None for any URL but the one that gave the validators: another one on the way to the page may
    have a page of its own with the same validators.
    """
    if validators is None or str(url) != validators.url:
        return ()
    headers = {"If-None-Match": validators.etag, "If-Modified-Since": validators.last_modified}
    return tuple((name, value) for name, value in headers.items() if value)
