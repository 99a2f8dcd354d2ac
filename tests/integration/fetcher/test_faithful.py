import asyncio
import hashlib
import threading
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from dirty_equals import IsFloat, IsNow

from app.fetcher import page as page_module
from app.fetcher.client import HttpFetcher
from app.models import Cookie, Header, PageMetadata, Redirect

from .conftest import ALLOWED, MakeFetcher, Names, Serve
from .hostile import chunked, redirect, replying, response, routing

HTML = b"Content-Type: text/html; charset=utf-8"


async def test_a_page_is_recorded_as_it_was_sent(fetcher: HttpFetcher, serve: Serve) -> None:
    body = "<!doctype html>né".encode()
    server = await serve(replying(response(body, HTML, b"Set-Cookie: a=b; HttpOnly")))

    page = await fetcher.fetch(server.url("/shop/page?q=1"))

    assert page == PageMetadata(
        final_url=server.url("/shop/page?q=1"),
        status_code=200,
        http_version="HTTP/1.1",
        headers=(
            Header("content-type", "text/html; charset=utf-8"),
            Header("set-cookie", "a=b; HttpOnly"),
            Header("content-length", "18"),
        ),
        cookies=(Cookie("a", "b", domain=ALLOWED, path="/shop", http_only=True),),
        page_source="<!doctype html>né",
        page_source_truncated=False,
        content_type="text/html",
        charset="utf-8",
        body_bytes=18,
        body_sha256=hashlib.sha256(body).hexdigest(),
        redirects=(),
        remote_address=ALLOWED,
        elapsed_ms=cast(float, IsFloat(gt=0, lt=5000)),
        fetched_at=cast(datetime, IsNow(tz=UTC, delta=timedelta(seconds=10))),
    )


@pytest.mark.parametrize(
    "status",
    [b"200 OK", b"204 Empty", b"404 Not here", b"418", b"503 Later", b"999 No"],
)
async def test_any_status_is_a_result(fetcher: HttpFetcher, serve: Serve, status: bytes) -> None:
    server = await serve(replying(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"))
    assert (await fetcher.fetch(server.url())).status_code == int(status[:3])


async def test_the_version_of_http_is_that_of_the_server(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(replying(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"))
    page = await fetcher.fetch(server.url())
    assert (page.http_version, page.page_source) == ("HTTP/1.0", "hello")


async def test_odd_headers_do_not_lose_the_page(fetcher: HttpFetcher, serve: Serve) -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nA : 1\r\nWarning: mysql()\r\nPHP Notice\r\nX-\xe9: \xe9\x00\x01\r\nA:2"
    )
    server = await serve(replying(raw + b"\r\nContent-Type: text/plain\r\n\r\nhello"))
    page = await fetcher.fetch(server.url())

    assert page.page_source == "hello"
    assert [(header.name, header.value) for header in page.headers] == [
        ("a", "1"),
        ("warning", "mysql()"),
        ("x-\xe9", "\xe9\x00\x01"),
        ("a", "2"),
        ("content-type", "text/plain"),
    ]


async def test_interim_responses_are_not_the_page(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(replying(b"HTTP/1.1 103 Early Hints\r\nA: 1\r\n\r\n", response(b"hello")))
    page = await fetcher.fetch(server.url())
    assert (page.status_code, [header.name for header in page.headers]) == (200, ["content-length"])


async def test_a_chunked_body_is_put_together(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(replying(chunked(b"hello", HTML)))
    assert (await fetcher.fetch(server.url())).page_source == "hello"


async def test_a_body_that_is_not_text_has_no_source(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(replying(response(b"\x89PNG\r\n\x1a\n\x00", b"Content-Type: image/png")))
    page = await fetcher.fetch(server.url())
    assert (page.page_source, page.charset, page.content_type) == (None, None, "image/png")
    assert page.body_bytes == 9


async def test_a_body_without_a_type_is_text_if_it_looks_like_text(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(routing(text=response(b"hello"), binary=response(b"\x00\x01")))
    assert (await fetcher.fetch(server.url("/text"))).page_source == "hello"
    assert (await fetcher.fetch(server.url("/binary"))).page_source is None


async def test_a_page_that_is_not_coded_as_it_says_is_not_lost(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(replying(response(b"hello", HTML, b"Content-Encoding: gzip")))
    page = await fetcher.fetch(server.url())
    assert (page.page_source, page.page_source_truncated, page.body_bytes) == ("hello", False, 5)


async def test_a_large_page_is_read_without_holding_up_the_others(
    make_fetcher: MakeFetcher, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, others_ran = asyncio.get_running_loop(), threading.Event()

    def decode(content: bytes, *_: object, **__: object) -> tuple[str, str]:
        loop.call_soon_threadsafe(others_ran.set)
        assert others_ran.wait(2)
        return content.decode(), "utf-8"

    monkeypatch.setattr(page_module, "decode_text", decode)
    server = await serve(replying(response("é".encode() * 1_000_000, HTML)))
    fetcher = await make_fetcher(max_body_bytes=5_000_000)
    page = await fetcher.fetch(server.url())

    assert (page.page_source, page.body_bytes) == ("é" * 1_000_000, 2_000_000)


@pytest.mark.parametrize(
    "status",
    [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"],
)
async def test_redirects_are_followed_and_recorded(
    fetcher: HttpFetcher, serve: Serve, status: bytes
) -> None:
    last = await serve(replying(response(b"here", HTML)))
    server = await serve(
        routing(a=redirect("b?x=1", status=status), b=redirect(last.url("/c#part")))
    )
    page = await fetcher.fetch(server.url("/a"))

    assert page.redirects == (
        Redirect(server.url("/a"), int(status[:3]), "b?x=1"),
        Redirect(server.url("/b?x=1"), 302, last.url("/c#part")),
    )
    assert (page.final_url, page.page_source) == (last.url("/c"), "here")


@pytest.mark.parametrize("status", [b"300 Choices", b"302 Found"])
async def test_a_redirect_to_nowhere_is_a_page(
    fetcher: HttpFetcher, serve: Serve, status: bytes
) -> None:
    server = await serve(replying(response(b"", status=status)))
    page = await fetcher.fetch(server.url())
    assert (page.status_code, page.redirects) == (int(status[:3]), ())


async def test_a_location_that_is_not_ascii_is_followed(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(routing(index=redirect("/é a"), **{"%C3%A9%20a": response(b"here")}))
    page = await fetcher.fetch(server.url())
    assert (page.page_source, page.redirects[0].location) == ("here", "/Ã© a")


async def test_the_same_location_twice_is_followed(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(
        routing(index=redirect("/next", b"LOCATION: /next"), next=response(b"here"))
    )
    page = await fetcher.fetch(server.url())
    assert (page.page_source, page.redirects[0].location) == ("here", "/next")


async def test_an_answer_with_two_locations_is_a_page(fetcher: HttpFetcher, serve: Serve) -> None:
    server = await serve(replying(redirect("/a", b"Location: /b")))
    page = await fetcher.fetch(server.url())
    assert (page.status_code, page.redirects, page.page_source) == (302, (), "elsewhere")
    assert [h.value for h in page.headers if h.name == "location"] == ["/a", "/b"]


async def test_cookies_of_every_hop_are_recorded_in_order(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(
        routing(
            index=redirect("/next/page", b"Set-Cookie: b=1", b"Set-Cookie: a=1; Path=/x; Secure"),
            next=response(b"", b"Set-Cookie: b=2; Max-Age=60; SameSite=None", b"Set-Cookie: odd"),
        )
    )
    page = await fetcher.fetch(server.url())

    assert page.cookies == (
        Cookie("b", "1", domain=ALLOWED, path="/"),
        Cookie("a", "1", domain=ALLOWED, path="/x", secure=True),
        Cookie("b", "2", domain=ALLOWED, path="/next", max_age=60, same_site="None"),
        Cookie("", "odd", domain=ALLOWED, path="/next"),
    )


async def test_cookies_after_the_200th_are_dropped(fetcher: HttpFetcher, serve: Serve) -> None:
    cookies = [b"Set-Cookie: c%d=1" % i for i in range(300)]
    server = await serve(replying(response(b"", *cookies)))
    page = await fetcher.fetch(server.url())
    assert (len(page.cookies), len(page.headers)) == (200, 301)


async def test_cookies_are_sent_on_where_a_browser_would_send_them(
    make_fetcher: MakeFetcher, serve: Serve, names: Names
) -> None:
    names.answers = {"a.test": [[ALLOWED]], "b.test": [[ALLOWED]]}
    cookies = (b"Set-Cookie: all=1; Path=/", b"Set-Cookie: some=1; Path=/deep")
    secure = b"Set-Cookie: tls=1; Path=/; Secure"
    other = await serve(replying(response(b"")))
    server = await serve(
        routing(
            index=redirect("/deep/x", *cookies, secure),
            deep=redirect("/other"),
            other=redirect(other.url(host="b.test")),
        )
    )
    fetcher = await make_fetcher(resolve=names)
    await fetcher.fetch(server.url(host="a.test"))

    sent = [request.headers.get("cookie") for request in [*server.requests, *other.requests]]
    assert sent == [None, "some=1; all=1", "all=1", None]


async def test_nothing_is_carried_from_one_page_to_the_next(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(replying(response(b"", b"Set-Cookie: a=1; Path=/; Max-Age=99")))
    for _ in range(2):
        await fetcher.fetch(server.url())

    assert [request.headers.get("cookie") for request in server.requests] == [None, None]
    assert server.connections == 2


async def test_the_request_says_who_asks_and_what_is_understood(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(replying(response(b"")))
    await fetcher.fetch(server.url())

    headers = server.requests[0].headers
    assert headers["host"] == f"{ALLOWED}:{server.port}"
    assert headers["user-agent"] == "page-metadata/1.0 (+https://example.com/bot)"
    assert headers["accept-encoding"] == "gzip, deflate, br, zstd"
    assert "authorization" not in headers


async def test_the_time_of_the_fetch_is_that_of_its_start(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(replying(response(b"")))
    before = datetime.now(UTC)
    page = await fetcher.fetch(server.url())
    assert before <= page.fetched_at <= before + timedelta(milliseconds=page.elapsed_ms + 1000)
