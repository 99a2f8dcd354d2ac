import asyncio
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

import pytest

from app.errors import FetchError, HostBusy
from app.fetcher.client import HttpFetcher
from app.models import ErrorKind, PageMetadata

from .conftest import ALLOWED, INSIDE, MakeFetcher, Names, Serve
from .hostile import (
    HostileServer,
    Request,
    redirect,
    replying,
    response,
    routing,
    running,
    silent,
)


class Busy:
    """Answers slowly, and knows how many were being served at once."""

    def __init__(self, seconds: float, answer: bytes) -> None:
        self._seconds, self._answer = seconds, answer
        self.now = self.most = 0

    async def __call__(self, _: Request, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self._seconds)
        self.now -= 1
        writer.write(self._answer)


async def endings(fetcher: HttpFetcher, urls: Iterable[str]) -> Counter[type]:
    """Fetch all of `urls` at once, and count what each comes to."""
    results = await asyncio.gather(*map(fetcher.fetch, urls), return_exceptions=True)
    return Counter(map(type, results))


async def test_a_host_gets_no_more_connections_at_once_than_its_limit(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    busy = Busy(0.1, response(b""))
    server = await serve(busy)
    for limit, most in ((2, 2), (0, 8)):
        busy.most = 0
        fetcher = await make_fetcher(per_host_concurrency=limit)
        ended = await endings(fetcher, [server.url()] * 8)
        assert busy.most == most
        assert ended[PageMetadata] >= most
        assert ended[PageMetadata] + ended[HostBusy] == 8


async def test_pages_of_a_host_that_is_busy_for_long_are_sent_away_at_once(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    server = await serve(silent())
    fetcher = await make_fetcher(per_host_concurrency=1)
    holding = asyncio.create_task(fetcher.fetch(server.url()))
    await server.is_asked()

    async with asyncio.timeout(2):
        for _ in range(400):
            with pytest.raises(HostBusy, match=r"all 1 connections to 127\.0\.0\.1 are in use"):
                await fetcher.fetch(server.url())
    assert server.connections == 1
    holding.cancel()


async def test_hundreds_of_pages_of_one_slow_host_keep_no_page_of_another_host_waiting(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    slow = await serve(silent())
    quick = await serve(replying(response(b"here")), address=INSIDE)
    both = (ip_network(ALLOWED), ip_network(INSIDE))
    fetcher = await make_fetcher(per_host_concurrency=8, allowed_networks=both)
    slots = asyncio.Semaphore(16)

    async def in_a_slot(url: str) -> PageMetadata:
        async with slots:
            return await fetcher.fetch(url)

    urls = [*[slow.url()] * 400, quick.url()]
    *others, last = [asyncio.create_task(in_a_slot(url)) for url in urls]
    async with asyncio.timeout(5):
        assert (await last).page_source == "here"
    assert sum(other.done() for other in others) == 400 - 8

    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_all_spellings_of_a_host_are_one_host(
    make_fetcher: MakeFetcher, serve: Serve, names: Names
) -> None:
    server = await serve(silent())
    names.answers = {name: [[ALLOWED]] for name in ("a.test", "a.test.")}
    fetcher = await make_fetcher(per_host_concurrency=1, resolve=names)
    holding = asyncio.create_task(fetcher.fetch(server.url(host="a.test")))
    await server.is_asked()

    for name in ("a.test", "A.TEST", "a.test."):
        with pytest.raises(HostBusy, match=r"to a\.test are"):
            await fetcher.fetch(server.url(host=name))
    holding.cancel()


async def test_names_that_lead_to_one_address_share_its_connections(
    make_fetcher: MakeFetcher, serve: Serve, names: Names
) -> None:
    busy = Busy(0.1, response(b""))
    server = await serve(busy)
    hosts = [f"{number}.wildcard.test" for number in range(50)]
    names.answers = {host: [[ALLOWED]] for host in hosts}
    fetcher = await make_fetcher(per_host_concurrency=3, resolve=names)

    ended = await endings(fetcher, (server.url(host=host) for host in hosts))
    assert busy.most == 3
    assert ended[PageMetadata] + ended[HostBusy] == 50


async def test_where_one_address_of_a_name_is_busy_another_is_asked(
    make_fetcher: MakeFetcher, serve: Serve, names: Names
) -> None:
    first = await serve(silent())
    names.answers = {"a.test": [[ALLOWED]], "b.test": [[ALLOWED, INSIDE]]}
    both = (ip_network(ALLOWED), ip_network(INSIDE))
    fetcher = await make_fetcher(per_host_concurrency=1, resolve=names, allowed_networks=both)
    holding = asyncio.create_task(fetcher.fetch(first.url(host="a.test")))
    await first.is_asked()

    async with running(replying(response(b"here")), INSIDE, port=first.port) as second:
        page = await fetcher.fetch(second.url(host="b.test"))
    assert (page.page_source, page.remote_address) == ("here", INSIDE)
    holding.cancel()


async def test_a_redirect_within_a_host_needs_no_second_connection_to_it(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    server = await serve(routing(index=redirect("/next"), next=response(b"here")))
    fetcher = await make_fetcher(per_host_concurrency=1, respect_robots=True)
    assert (await fetcher.fetch(server.url())).page_source == "here"


@pytest.fixture
async def bound(make_fetcher: MakeFetcher) -> HttpFetcher:
    return await make_fetcher(respect_robots=True)


async def failure(fetcher: HttpFetcher, url: str) -> tuple[ErrorKind, bool]:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(url)
    return caught.value.kind, caught.value.retryable


def site(robots_txt: Any, **pages: Any) -> Any:
    return routing(robots_txt=robots_txt, **pages)


RULES = response(b"User-agent: *\nDisallow: /private\n", b"Content-Type: text/plain")


async def test_robots_txt_is_not_asked_for_unless_it_binds(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(site(RULES, private=response(b"hello")))
    await fetcher.fetch(server.url("/private"))
    assert server.asked_for == ["/private"]


async def test_a_disallowed_page_is_not_asked_for(bound: HttpFetcher, serve: Serve) -> None:
    server = await serve(site(RULES, public=response(b"hello")))

    assert await failure(bound, server.url("/private/x")) == (ErrorKind.ROBOTS, False)
    assert (await bound.fetch(server.url("/public"))).page_source == "hello"
    assert server.asked_for == ["/robots.txt", "/public"]


async def test_a_redirect_to_a_disallowed_page_is_not_followed(
    bound: HttpFetcher, serve: Serve
) -> None:
    server = await serve(site(RULES, public=redirect("/private/x")))
    assert await failure(bound, server.url("/public")) == (ErrorKind.ROBOTS, False)
    assert server.asked_for == ["/robots.txt", "/public"]


async def test_a_redirect_to_another_host_asks_that_host_first(
    bound: HttpFetcher, serve: Serve
) -> None:
    other = await serve(site(RULES))
    server = await serve(site(response(b""), index=redirect(other.url("/private"))))
    assert await failure(bound, server.url()) == (ErrorKind.ROBOTS, False)
    assert other.asked_for == ["/robots.txt"]


async def test_robots_txt_may_be_somewhere_else(bound: HttpFetcher, serve: Serve) -> None:
    server = await serve(site(redirect("/rules"), rules=RULES))
    assert await failure(bound, server.url("/private")) == (ErrorKind.ROBOTS, False)


async def test_a_host_without_robots_txt_allows_everything(
    bound: HttpFetcher, serve: Serve
) -> None:
    server = await serve(routing(private=response(b"hello")))
    assert (await bound.fetch(server.url("/private"))).page_source == "hello"


async def test_a_host_whose_robots_txt_fails_is_tried_again_later(
    bound: HttpFetcher, serve: Serve
) -> None:
    server = await serve(site(response(b"", status=b"503 Later")))
    assert await failure(bound, server.url("/")) == (ErrorKind.ROBOTS, True)


async def test_pages_of_a_host_whose_robots_txt_is_slow_are_sent_away(
    bound: HttpFetcher, serve: Serve
) -> None:
    server = await serve(site(silent()))
    asking = asyncio.create_task(bound.fetch(server.url("/1")))
    await server.is_asked()
    with pytest.raises(HostBusy, match=r"robots\.txt"):
        await bound.fetch(server.url("/2"))
    asking.cancel()


async def test_the_pages_of_a_host_share_the_failure_of_its_robots_txt(
    bound: HttpFetcher, serve: Serve
) -> None:
    server = await serve(site(b""))
    failures = [await failure(bound, server.url(f"/{number}")) for number in range(5)]
    assert failures == [(ErrorKind.CONNECT, True)] * 5
    assert server.asked_for == ["/robots.txt"]


async def test_robots_txt_does_not_lead_inside(
    bound: HttpFetcher, serve: Serve, sink: HostileServer
) -> None:
    server = await serve(site(redirect(sink.url("/robots.txt"))))
    assert await failure(bound, server.url("/")) == (ErrorKind.BLOCKED_ADDRESS, False)
    assert await failure(bound, f"http://{INSIDE}/") == (ErrorKind.BLOCKED_ADDRESS, False)
    assert sink.connections == 0


async def test_a_slow_robots_txt_uses_up_the_time_of_the_page(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    fetcher = await make_fetcher(respect_robots=True, total_timeout_seconds=0.2)
    server = await serve(Busy(60, b""))
    assert await failure(fetcher, server.url()) == (ErrorKind.TIMEOUT, True)


async def test_no_cookie_of_robots_txt_goes_to_the_page(bound: HttpFetcher, serve: Serve) -> None:
    server = await serve(site(response(b"", b"Set-Cookie: a=1; Path=/"), index=response(b"")))
    page = await bound.fetch(server.url())
    assert page.cookies == ()
    assert "cookie" not in server.requests[-1].headers


async def test_the_port_is_no_part_of_the_host(make_fetcher: MakeFetcher, serve: Serve) -> None:
    busy = Busy(0.1, response(b""))
    servers = [await serve(busy), await serve(busy)]
    fetcher = await make_fetcher(per_host_concurrency=1)
    ended = await endings(fetcher, (server.url() for server in servers))
    assert busy.most == 1
    assert ended[PageMetadata] + ended[HostBusy] == 2


async def test_many_pages_at_once_do_not_mix(fetcher: HttpFetcher, serve: Serve) -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        name = request.target.strip("/").encode()
        await replying(response(name, b"Set-Cookie: name=" + name))(request, writer)

    server = await serve(echo)
    pages = await asyncio.gather(*(fetcher.fetch(server.url(f"/{i}")) for i in range(50)))
    assert [page.page_source for page in pages] == [str(i) for i in range(50)]
    assert [page.cookies[0].value for page in pages] == [str(i) for i in range(50)]
