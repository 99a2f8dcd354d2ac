import asyncio
import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress

import brotli  # type: ignore[import-untyped]  # carries no annotations
import pytest
from backports import zstd

from app.errors import FetchError
from app.fetcher.client import HttpFetcher
from app.models import ErrorKind

from .conftest import ALLOWED, MakeFetcher, Names, Serve
from .hostile import (
    Converse,
    Request,
    chunked,
    redirect,
    repeating,
    replying,
    replying_then_hanging,
    response,
    routing,
    silent,
)

HTML = b"Content-Type: text/html"
OPEN_END = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ZEROS = bytes(50_000_000)
BOMBS = {
    "gzip": gzip.compress(ZEROS),
    "deflate": zlib.compress(ZEROS),
    "br": bytes(brotli.compress(ZEROS, quality=3)),
    "zstd": zstd.compress(ZEROS),
}


async def failure(fetcher: HttpFetcher, url: str) -> tuple[ErrorKind, bool]:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(url)
    return caught.value.kind, caught.value.retryable


@pytest.fixture
async def impatient(make_fetcher: MakeFetcher) -> HttpFetcher:
    return await make_fetcher(total_timeout_seconds=0.3)


SLOW: dict[str, Converse] = {
    "nothing at all": silent(),
    "half a head": replying_then_hanging(b"HTTP/1.1 200 OK\r\nA: "),
    "a head that drips": repeating(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", every_seconds=0.05),
    "no body": replying_then_hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    "half a body": replying_then_hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
    "a body that drips": repeating(OPEN_END, b"x", every_seconds=0.02),
    "chunks that drip": repeating(CHUNKED, b"1\r\nx\r\n", every_seconds=0.02),
    "a chunk header that drips": repeating(CHUNKED + b"5;", b"x", every_seconds=0.02),
    "a coding that drips": repeating(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b""), every_seconds=0.02
    ),
    "a redirect that hangs": routing(index=redirect("/next"), next=silent()),
}


@pytest.mark.parametrize("converse", SLOW.values(), ids=SLOW)
async def test_a_slow_server_is_left_at_the_deadline(
    impatient: HttpFetcher, serve: Serve, converse: Converse
) -> None:
    server = await serve(converse)
    started = time.monotonic()

    assert await failure(impatient, server.url()) == (ErrorKind.TIMEOUT, True)
    assert 0.25 < time.monotonic() - started < 3


async def test_the_deadline_is_one_for_all_hops_together(
    impatient: HttpFetcher, serve: Serve
) -> None:
    hops = 0

    async def slowly(_: object, writer: asyncio.StreamWriter) -> None:
        nonlocal hops
        hops += 1
        await asyncio.sleep(0.12)
        writer.write(redirect("/on"))

    server = await serve(slowly)
    assert await failure(impatient, server.url()) == (ErrorKind.TIMEOUT, True)
    assert hops <= 3


async def test_a_body_that_never_ends_is_cut_at_the_limit(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    for start, again in ((OPEN_END, b"x" * 1000), (CHUNKED, b"3e8\r\n" + b"x" * 1000 + b"\r\n")):
        server = await serve(repeating(start, again))
        page = await fetcher.fetch(server.url())

        assert (page.body_bytes, page.page_source_truncated) == (100_000, True)
        assert page.page_source == "x" * 100_000


async def test_a_body_is_cut_before_the_last_half_of_a_character(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(replying(response(b"a" + "é".encode() * 60_000, HTML)))
    page = await fetcher.fetch(server.url())
    assert (page.page_source, page.body_bytes) == ("a" + "é" * 49_999, 100_000)


async def test_a_body_of_exactly_the_limit_is_whole(fetcher: HttpFetcher, serve: Serve) -> None:
    for answer in (response(b"x" * 100_000), chunked(b"x" * 100_000), OPEN_END + b"x" * 100_000):
        server = await serve(replying(answer))
        page = await fetcher.fetch(server.url())
        assert (page.body_bytes, page.page_source_truncated) == (100_000, False)


@pytest.mark.parametrize("coding", BOMBS)
async def test_a_bomb_is_cut_at_the_limit(fetcher: HttpFetcher, serve: Serve, coding: str) -> None:
    header = b"Content-Encoding: " + coding.encode()
    server = await serve(replying(response(BOMBS[coding], header, HTML)))
    page = await fetcher.fetch(server.url())
    assert (page.body_bytes, page.page_source_truncated) == (100_000, True)


async def test_a_bomb_within_a_bomb_is_not_opened(fetcher: HttpFetcher, serve: Serve) -> None:
    nested = gzip.compress(BOMBS["gzip"])
    server = await serve(replying(response(nested, b"Content-Encoding: gzip, gzip", HTML)))
    page = await fetcher.fetch(server.url())
    assert (page.body_bytes, page.page_source) == (len(nested), None)


async def test_many_bombs_at_once_use_little_memory(fetcher: HttpFetcher, serve: Serve) -> None:
    servers = [
        await serve(replying(response(bomb, b"Content-Encoding: " + coding.encode())))
        for coding, bomb in BOMBS.items()
    ]
    tracemalloc.start()
    try:
        await asyncio.gather(*(fetcher.fetch(server.url()) for server in servers * 4))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 16 * 1_000_000


INVALID: dict[str, bytes] = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "bytes": b"\x00\x01\x02\x03",
    "HTML without a head": b"<html>hello</html>",
    "a status that is none": b"HTTP/1.1 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "a chunk that is none": CHUNKED + b"zz\r\n",
    "an unknown transfer coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\n",
    "an upgrade nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "a location that is none": redirect("http://[::1/"),
    "a chunk header without end": CHUNKED + b"5;" + b"x" * 200_000,
    "a million one-byte chunks": CHUNKED + b"1\r\nx\r\n" * 1_000_000,
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID)
async def test_garbage_is_an_invalid_response(
    fetcher: HttpFetcher, serve: Serve, answer: bytes
) -> None:
    server = await serve(replying_then_hanging(answer))
    assert await failure(fetcher, server.url()) == (ErrorKind.INVALID_RESPONSE, False)


async def test_a_page_is_complete_with_its_last_chunk_whatever_trailer_follows(
    impatient: HttpFetcher, serve: Serve
) -> None:
    for trailer in (b"", b"A: b\r\n" * 40_000):
        server = await serve(replying_then_hanging(CHUNKED + b"5\r\nhello\r\n0\r\n" + trailer))
        assert (await impatient.fetch(server.url())).page_source == "hello"


@pytest.mark.parametrize(
    "location",
    [
        "http://xn--zz.example/",
        "http://xn--.example/",
        "http://a.example:99999999/",
        "http://[::1%é]/",
    ],
)
async def test_a_redirect_to_an_odd_host_fails_in_a_way_that_is_foreseen(
    make_fetcher: MakeFetcher, names: Names, serve: Serve, location: str
) -> None:
    fetcher = await make_fetcher(resolve=names)
    server = await serve(replying(redirect(location)))
    kind, retryable = await failure(fetcher, server.url())
    assert kind in {ErrorKind.DNS, ErrorKind.BLOCKED_ADDRESS, ErrorKind.INVALID_RESPONSE}
    assert not retryable


FLOODS: dict[str, Converse] = {
    "headers": repeating(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 100),
    "one header": repeating(b"HTTP/1.1 200 OK\r\nA: ", b"x" * 1000),
    "interim responses": repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "large interim responses": repeating(b"", b"HTTP/1.1 103 \r\nA: %b\r\n\r\n" % (b"x" * 50_000)),
}


@pytest.mark.parametrize("converse", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_headers_is_an_invalid_response(
    fetcher: HttpFetcher, serve: Serve, converse: Converse
) -> None:
    server = await serve(converse)
    assert await failure(fetcher, server.url()) == (ErrorKind.INVALID_RESPONSE, False)


CUT: dict[str, bytes] = {
    "before anything": b"",
    "in the head": b"HTTP/1.1 200 OK\r\nA: b\r\n",
    "before the body": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
    "between chunks": CHUNKED + b"1\r\nx\r\n",
    "in a chunk": CHUNKED + b"5\r\nhel",
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
async def test_a_connection_that_is_cut_may_be_tried_again(
    fetcher: HttpFetcher, serve: Serve, answer: bytes
) -> None:
    server = await serve(replying(answer))
    assert await failure(fetcher, server.url()) == (ErrorKind.CONNECT, True)


async def test_a_connection_that_is_reset_may_be_tried_again(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    async def reset(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        await writer.drain()
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()

    server = await serve(reset)
    assert await failure(fetcher, server.url()) == (ErrorKind.CONNECT, True)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server((ALLOWED, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def test_a_refused_connection_may_be_tried_again(
    fetcher: HttpFetcher, closed_port: int
) -> None:
    assert await failure(fetcher, f"http://{ALLOWED}:{closed_port}/") == (ErrorKind.CONNECT, True)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: it answers nobody."""
    with socket.create_server((ALLOWED, 0), backlog=0) as listening:
        waiting = [socket.socket() for _ in range(3)]
        for caller in waiting:
            caller.setblocking(False)
            caller.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for caller in waiting:
            caller.close()


async def test_a_host_that_does_not_pick_up_is_left_after_the_connect_timeout(
    make_fetcher: MakeFetcher, full_port: int
) -> None:
    fetcher = await make_fetcher(connect_timeout_seconds=0.2)
    started = time.monotonic()

    assert await failure(fetcher, f"http://{ALLOWED}:{full_port}/") == (ErrorKind.TIMEOUT, True)
    assert time.monotonic() - started < 3


async def test_a_resolver_that_hangs_is_left_after_the_connect_timeout(
    make_fetcher: MakeFetcher,
) -> None:
    async def hang(_: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    fetcher = await make_fetcher(connect_timeout_seconds=0.2, resolve=hang)
    assert await failure(fetcher, "http://slow.test/") == (ErrorKind.DNS, True)


async def test_a_name_that_does_not_exist_is_not_tried_again(make_fetcher: MakeFetcher) -> None:
    async def unknown(_: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    fetcher = await make_fetcher(resolve=unknown)
    assert await failure(fetcher, "http://nowhere.test/") == (ErrorKind.DNS, False)


async def test_redirects_end_at_the_limit(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(replying(redirect("/again")))
    assert await failure(fetcher, server.url()) == (ErrorKind.TOO_MANY_REDIRECTS, False)
    assert len(server.requests) == 6


async def test_as_many_redirects_as_the_limit_are_followed(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    pages = {f"p{i}": redirect(f"/p{i + 1}") for i in range(5)}
    server = await serve(routing(**pages, p5=response(b"here")))
    page = await fetcher.fetch(server.url("/p0"))
    assert (page.page_source, len(page.redirects)) == ("here", 5)


async def test_the_body_of_a_redirect_is_not_waited_for(
    impatient: HttpFetcher, serve: Serve
) -> None:
    hanging = replying_then_hanging(redirect("/next")[:-1])
    server = await serve(routing(index=hanging, next=response(b"here")))
    assert (await impatient.fetch(server.url())).page_source == "here"


async def test_a_cancelled_fetch_ends_at_once_and_hangs_up(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def watch(request: Request, _: asyncio.StreamWriter) -> None:
        asked.set()
        await request.hung_up()
        gone.set()

    server = await serve(watch)
    fetch = asyncio.create_task(fetcher.fetch(server.url()))
    await asked.wait()
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    async with asyncio.timeout(3):
        await gone.wait()


async def test_every_hop_hangs_up_when_it_is_done(fetcher: HttpFetcher, serve: Serve) -> None:
    pages = routing(index=redirect("/next"), next=OPEN_END + b"x" * 200_000)
    gone = asyncio.Semaphore(0)

    async def watch(request: Request, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await pages(request, writer)
        await request.hung_up()
        gone.release()

    server = await serve(watch)
    await fetcher.fetch(server.url())
    async with asyncio.timeout(3):
        await gone.acquire()
        await gone.acquire()
