import asyncio
from typing import Any

import pytest

from app.errors import FetchError
from app.fetcher.client import HttpFetcher
from app.models import ErrorKind

from .conftest import ALLOWED, INSIDE, MakeFetcher, Names, Serve
from .hostile import HostileServer, Request, redirect, replying, response, routing


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


async def test_a_host_gets_no_more_connections_at_once_than_its_limit(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    busy = Busy(0.02, response(b""))
    server = await serve(busy)
    for limit, most in ((2, 2), (0, 8)):
        busy.most = 0
        fetcher = await make_fetcher(per_host_concurrency=limit)
        await asyncio.gather(*(fetcher.fetch(server.url()) for _ in range(8)))
        assert busy.most == most


async def test_all_spellings_of_a_host_are_one_host(
    make_fetcher: MakeFetcher, serve: Serve, names: Names
) -> None:
    busy = Busy(0.02, response(b""))
    server = await serve(busy)
    names.answers = {name: [[ALLOWED]] for name in ("a.test", "a.test.")}
    fetcher = await make_fetcher(per_host_concurrency=1, resolve=names)
    urls = [server.url(host=name) for name in ("a.test", "A.TEST", "a.test.")]
    await asyncio.gather(*map(fetcher.fetch, urls))
    assert busy.most == 1


async def test_waiting_for_a_turn_does_not_count_as_time_of_the_fetch(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    server = await serve(Busy(0.25, response(b"")))
    fetcher = await make_fetcher(per_host_concurrency=1, total_timeout_seconds=1)
    pages = await asyncio.gather(*(fetcher.fetch(server.url()) for _ in range(5)))
    assert max(page.elapsed_ms for page in pages) < 1000


async def test_hops_between_two_hosts_do_not_wait_for_each_other_for_ever(
    make_fetcher: MakeFetcher, serve: Serve, names: Names
) -> None:
    names.answers = {"a.test": [[ALLOWED]], "b.test": [[ALLOWED]]}
    last = await serve(Busy(0.02, response(b"here")))
    to_b = await serve(Busy(0.02, redirect(last.url(host="b.test"))))
    to_a = await serve(Busy(0.02, redirect(last.url(host="a.test"))))
    fetcher = await make_fetcher(per_host_concurrency=1, resolve=names)
    urls = [to_b.url(host="a.test"), to_a.url(host="b.test")] * 3
    pages = await asyncio.gather(*map(fetcher.fetch, urls))
    assert {page.page_source for page in pages} == {"here"}


@pytest.fixture
async def bound(make_fetcher: MakeFetcher) -> HttpFetcher:
    return await make_fetcher(respect_robots=True)


async def failure(fetcher: HttpFetcher, url: str) -> tuple[ErrorKind, bool]:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(url)
    return caught.value.kind, caught.value.retryable


def site(robots_txt: bytes, **pages: Any) -> Any:
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


async def test_those_who_wait_for_a_robots_txt_share_its_failure(
    bound: HttpFetcher, serve: Serve
) -> None:
    server = await serve(site(b""))
    failures = await asyncio.gather(*(failure(bound, server.url(f"/{i}")) for i in range(5)))
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
    busy = Busy(0.02, response(b""))
    servers = [await serve(busy), await serve(busy)]
    fetcher = await make_fetcher(per_host_concurrency=1)
    await asyncio.gather(*(fetcher.fetch(server.url()) for server in servers * 2))
    assert busy.most == 1


async def test_many_pages_at_once_do_not_mix(fetcher: HttpFetcher, serve: Serve) -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        name = request.target.strip("/").encode()
        await replying(response(name, b"Set-Cookie: name=" + name))(request, writer)

    server = await serve(echo)
    pages = await asyncio.gather(*(fetcher.fetch(server.url(f"/{i}")) for i in range(50)))
    assert [page.page_source for page in pages] == [str(i) for i in range(50)]
    assert [page.cookies[0].value for page in pages] == [str(i) for i in range(50)]
