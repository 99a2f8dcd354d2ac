import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FetchError
from app.fetcher import head
from app.fetcher.head import ResponseHead, read_head
from app.models import ErrorKind, Header

OK = b"HTTP/1.1 200 OK\r\n"


async def read(*parts: bytes, ends: bool = True) -> ResponseHead:
    reader = asyncio.StreamReader()
    for part in parts:
        reader.feed_data(part)
    if ends:
        reader.feed_eof()
    return await read_head(reader)


async def headers(raw: bytes) -> list[tuple[str, str]]:
    return [(h.name, h.value) for h in (await read(OK + raw + b"\r\n\r\n")).headers]


async def test_headers_keep_their_order_their_duplicates_and_their_values() -> None:
    assert await headers(b"B: 2\r\nA: 1\r\nb:  x  y \r\nContent-Length: 5, 5\r\nEmpty:") == [
        ("b", "2"),
        ("a", "1"),
        ("b", "x  y"),
        ("content-length", "5, 5"),
        ("empty", ""),
    ]


async def test_bytes_that_are_not_ascii_are_kept_as_latin_1() -> None:
    assert await headers(b"X-Caf\xe9: na\xefve \xff\r\nUtf: \xc3\xa9") == [
        ("x-caf\xe9", "na\xefve \xff"),
        ("utf", "\xc3\xa9"),
    ]


@pytest.mark.parametrize(
    ("sloppy", "recorded"),
    [
        (b"A : b", [("a", "b")]),
        (b"A: b\r\n  c", [("a", "b c")]),
        (b"A: b\x00c", [("a", "b\x00c")]),
        (b"A: b\r", [("a", "b")]),
        (b"A: b\x0c\x0bc", [("a", "b\x0c\x0bc")]),
        (b"A b: c", [("a b", "c")]),
        (b": c", [("", "c")]),
        (b"a warning of some script", []),
        (b"A: b\nC: d", [("a", "b"), ("c", "d")]),
    ],
)
async def test_a_sloppy_header_is_recorded_like_any_other(
    sloppy: bytes, recorded: list[tuple[str, str]]
) -> None:
    assert await headers(sloppy) == recorded


@pytest.mark.parametrize(
    ("line", "version", "status"),
    [
        (b"HTTP/1.1 200 OK", "HTTP/1.1", 200),
        (b"HTTP/1.0 404 Not here", "HTTP/1.0", 404),
        (b"HTTP/1.1 503", "HTTP/1.1", 503),
        (b"HTTP/1.1 999 ", "HTTP/1.1", 999),
        (b"HTTP/1.1  200  \xe9\x00", "HTTP/1.1", 200),
    ],
)
async def test_the_status_line_gives_version_and_status(
    line: bytes, version: str, status: int
) -> None:
    found = await read(line + b"\r\n\r\n")
    assert (found.http_version, found.status_code) == (version, status)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 OK",
        b"HTTP/1.1",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000",
        b"HTTP/1.1 200OK",
        b"HTTP/1.x 200",
        b"HTTP/1.1 101 Switching Protocols",
    ],
)
async def test_a_status_line_that_cannot_be_read_is_an_invalid_response(line: bytes) -> None:
    with pytest.raises(FetchError) as caught:
        await read(line + b"\r\n\r\n", ends=False)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INVALID_RESPONSE, False)


async def test_the_values_of_a_header_are_found_by_its_name_in_lower_case() -> None:
    found = await read(OK + b"A: 1\r\nB: 2\r\na: 3\r\n\r\n")
    assert (found.values("a"), found.values("c")) == (["1", "3"], [])


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n"])
async def test_the_body_that_came_along_is_passed_on(end: bytes) -> None:
    assert (await read(b"HTTP/1.1 200 OK\r\nA: b" + end + b"body\n\n")).rest == b"body\n\n"


@given(st.integers(1, 40))
def test_it_does_not_matter_how_the_bytes_are_cut(size: int) -> None:
    raw = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"A: b\r\nC: d\r\n\r\nrest"

    async def drip() -> ResponseHead:
        reader = asyncio.StreamReader()
        reading = asyncio.ensure_future(read_head(reader))
        for start in range(0, len(raw), size):
            reader.feed_data(raw[start : start + size])
            await asyncio.sleep(0)
        reader.feed_eof()
        return await reading

    assert asyncio.run(drip()).headers == (Header("a", "b"), Header("c", "d"))


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02",
        b"<html>hello</html>",
        b"HTTP/2 200\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"H\x00",
    ],
)
async def test_what_is_not_http_1_is_refused_without_waiting_for_more(garbage: bytes) -> None:
    with pytest.raises(FetchError) as caught:
        await asyncio.wait_for(read(garbage, ends=False), timeout=1)

    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INVALID_RESPONSE, False)


async def test_interim_responses_are_passed_over_but_not_for_ever() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    allowed = head.MAX_INTERIM_RESPONSES

    assert (await read(interim * allowed + OK + b"\r\n")).status_code == 200
    with pytest.raises(FetchError, match="interim"):
        await read(interim * (allowed + 1) + OK + b"\r\n", ends=False)


@pytest.mark.parametrize("line", [b"A: %b\r\n" % (b"x" * 1000), b"x" * 1000])
async def test_a_flood_of_headers_is_stopped_at_a_number_of_bytes(line: bytes) -> None:
    with pytest.raises(FetchError, match="bytes of headers"):
        await read(OK + line * 200, ends=False)


async def test_a_flood_of_headers_is_stopped_even_if_it_comes_in_one_piece() -> None:
    with pytest.raises(FetchError, match="bytes of headers"):
        await read(OK + b"A: b\r\n" * 20_000 + b"\r\n")


async def test_more_than_500_headers_are_refused() -> None:
    assert len((await read(OK + b"A: b\r\n" * head.MAX_HEADERS + b"\r\n")).headers) == 500
    with pytest.raises(FetchError, match="500 headers"):
        await read(OK + b"A: b\r\n" * (head.MAX_HEADERS + 1) + b"\r\n")


@pytest.mark.parametrize("begun", [b"", b"HT", b"HTTP/1.1 200 OK\r\nA: b\r\n"])
async def test_a_connection_that_ends_within_the_head_is_a_cut_connection(begun: bytes) -> None:
    with pytest.raises(ConnectionResetError):
        await read(begun)


async def test_a_head_that_drips_is_not_searched_from_its_beginning_for_each_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Counting:
        searched_bytes = 0

        def search(self, received: bytearray, start: int) -> re.Match[bytes] | None:
            self.searched_bytes += len(received) - start
            return re.compile(rb"\r\n\r\n").search(received, start)

    counting = Counting()
    monkeypatch.setattr(head, "_END_OF_HEAD", counting)
    raw = OK + b"A: b\r\n" * 200 + b"\r\n"
    reader = asyncio.StreamReader()
    reading = asyncio.ensure_future(read_head(reader))
    for byte in raw:
        reader.feed_data(bytes([byte]))
        await asyncio.sleep(0)
    await reading

    assert counting.searched_bytes < 10 * len(raw)
