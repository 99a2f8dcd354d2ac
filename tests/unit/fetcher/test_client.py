"""Whatever a server sends, a fetch ends in a page or in a foreseen error."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FetchError, HostBusy, TooManyFetches
from app.fetcher.client import HttpFetcher
from app.models import ErrorKind

TLS = ssl.create_default_context()


class NoWriter:
    """Sends to nobody."""

    class transport:  # noqa: N801 - an attribute of asyncio.StreamWriter
        @staticmethod
        def abort() -> None:
            pass

    def write(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\n")
        assert data.count(b"\r\n\r\n") == 1

    async def start_tls(self, *_: object, **__: object) -> None:
        pass


def an_internet_that_says(*answers: bytes) -> Any:
    """Return a stand-in for `asyncio.open_connection`: the n-th connection gets answer n."""
    left = list(answers)

    async def open_connection(
        *_: object, **__: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader()
        reader.feed_data(left.pop(0) if left else b"")
        reader.feed_eof()
        return reader, cast(asyncio.StreamWriter, NoWriter())

    return open_connection


async def anywhere(_: str) -> Sequence[str]:
    return ["93.184.215.14"]


def a_fetcher(**changes: Any) -> HttpFetcher:
    settings: dict[str, Any] = {
        "connect_timeout_seconds": 1,
        "total_timeout_seconds": 5,
        "max_body_bytes": 10_000,
        "max_redirects": 3,
        "user_agent": "page-metadata/1.0",
        "allowed_ports": frozenset({80, 443}),
        "allowed_networks": (),
        "per_host_concurrency": 1,
        "respect_robots": False,
        "ssl_context": TLS,
        "resolve": anywhere,
    }
    return HttpFetcher(**settings | changes)


STATUS_LINES = [b"HTTP/1.1 200 OK", b"HTTP/1.0 302 Found", b"HTTP/1.1 503", b"HTTP/1.1 100 Go on"]
NAMES = [
    *[b"Location", b"Content-Type", b"Content-Encoding", b"Transfer-Encoding", b"Content-Length"],
    *[b"Set-Cookie", b"Connection", b"X"],
]
TOKENS = [
    *[b"/next", b"http://b.test/", b"https://b.test/", b"//", b"xn--zz.test", b"[::1", b"@", b":9"],
    *[b"text/html", b"charset=", b'"', b"utf-16", b"gzip", b"br", b"zstd", b"deflate", b"chunked"],
    *[b"a=b", b"expires=", b"max-age=", b"domain=", b"path=", b"secure", b"1 Jan 2026 0:0:0"],
    *[b"5", b"0", b"-1", b"9" * 30, b";", b",", b" ", b"\n ", b"\r", b"\x00", b"\xff", b"\xc3\xa9"],
]
BODY_PARTS = [
    *[
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"fffffffffffffff\r\n",
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
    ],
    *[b"<meta charset=", b"<!--", b"<?xml encoding='", b"user-agent: *\n", b"disallow: /\n"],
    *[b"utf-8", b"\xef\xbb\xbf", b"\x80" * 50, b"\xff\xfe", b"\x00", b"\r\n"],
]


def joined(parts: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(parts) | st.binary(max_size=8), max_size=6).map(b"".join)


HEADERS = st.builds(
    lambda name, value: name + b": " + value, st.sampled_from(NAMES), joined(TOKENS)
)
RESPONSES = st.builds(
    lambda status_line, headers, body: b"\r\n".join([status_line, *headers, b"", body]),
    st.sampled_from(STATUS_LINES),
    st.lists(HEADERS, max_size=6),
    joined(BODY_PARTS),
)
GARBAGE = joined(STATUS_LINES + NAMES)
ANSWERS = st.lists(st.one_of(*[RESPONSES] * 5, GARBAGE), min_size=1, max_size=4)


@given(answers=ANSWERS, respect_robots=st.booleans())
def test_any_bytes_end_in_a_page_or_in_a_foreseen_error(
    answers: list[bytes], *, respect_robots: bool
) -> None:
    async def fetch() -> None:
        fetcher = a_fetcher(respect_robots=respect_robots)
        with suppress(HostBusy):
            await fetcher.fetch("http://a.test/")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "open_connection", an_internet_that_says(*answers))
        try:
            asyncio.run(fetch())
        except FetchError as error:
            assert error.kind is not ErrorKind.INTERNAL  # noqa: PT017 - one of two good endings


# --- Fetches of one host in a minute ---

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
NO_ROBOTS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def a_redirect_to(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n"


@pytest.fixture(autouse=True)
def _one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throttled.utils.now_sec", lambda: 600)
    monkeypatch.setattr("throttled.utils.now_ms", lambda: 600_000)


async def test_a_page_counts_once_for_its_host_however_often_that_redirects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    internet = an_internet_that_says(a_redirect_to(b"/2"), a_redirect_to(b"https://a.test/3"), PAGE)
    monkeypatch.setattr(asyncio, "open_connection", internet)
    fetcher = a_fetcher(per_host_per_minute=1)
    assert (await fetcher.fetch("http://a.test/")).status_code == 200
    with pytest.raises(TooManyFetches, match=r"a\.test"):
        await fetcher.fetch("http://a.test/other")


async def test_a_redirect_to_another_host_counts_there(monkeypatch: pytest.MonkeyPatch) -> None:
    internet = an_internet_that_says(a_redirect_to(b"http://b.test/"), PAGE)
    monkeypatch.setattr(asyncio, "open_connection", internet)
    fetcher = a_fetcher(per_host_per_minute=1)
    await fetcher.fetch("http://a.test/")
    with pytest.raises(TooManyFetches, match=r"b\.test"):
        await fetcher.fetch("http://b.test/")


async def test_a_robots_txt_counts_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "open_connection", an_internet_that_says(NO_ROBOTS, PAGE))
    fetcher = a_fetcher(per_host_per_minute=1, respect_robots=True)
    assert (await fetcher.fetch("http://a.test/")).status_code == 200


async def test_a_page_that_may_not_be_asked_for_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncio, "open_connection", an_internet_that_says(PAGE))
    fetcher = a_fetcher(per_host_per_minute=1)
    with pytest.raises(FetchError, match="port"):
        await fetcher.fetch("http://a.test:81/")
    assert (await fetcher.fetch("http://a.test/")).status_code == 200
