import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FetchError
from app.fetcher import framing
from app.fetcher.framing import READ_BYTES, Chunked, framing_of, read_framed
from app.fetcher.head import ResponseHead
from app.models import ErrorKind, Header

CHUNKED = ("transfer-encoding", "chunked")


def a_head(*headers: tuple[str, str], status: int = 200, rest: bytes = b"") -> ResponseHead:
    return ResponseHead(
        "HTTP/1.1", status, tuple(Header(name, value) for name, value in headers), rest
    )


def received(*parts: bytes, ends: bool = True) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for part in parts:
        reader.feed_data(part)
    if ends:
        reader.feed_eof()
    return reader


async def read(head: ResponseHead, *parts: bytes, ends: bool = True) -> bytes:
    async with asyncio.timeout(5):
        pieces = [piece async for piece in read_framed(received(*parts, ends=ends), head)]
    return b"".join(pieces)


def in_chunks(body: bytes, size: int) -> bytes:
    chunks = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


@pytest.mark.parametrize(
    "headers",
    [
        [("content-length", "5")],
        [("content-length", "5"), ("content-length", "5")],
        [("content-length", "5, 5")],
        [("content-length", "005")],
        [("transfer-encoding", "identity"), ("content-length", "5")],
    ],
)
async def test_a_body_of_known_length_ends_without_waiting_for_the_server_to_hang_up(
    headers: list[tuple[str, str]],
) -> None:
    assert await read(a_head(*headers), b"hello and more", ends=False) == b"hello"


async def test_bytes_that_came_with_the_head_are_the_beginning_of_the_body() -> None:
    head = a_head(("content-length", "5"), rest=b"hel")
    assert await read(head, b"lo", ends=False) == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_body_has_none_whatever_the_headers_say(status: int) -> None:
    for headers in ([], [("content-length", "5")], [CHUNKED]):
        assert await read(a_head(*headers, status=status), b"hello", ends=False) == b""


async def test_without_length_or_chunks_the_body_ends_with_the_connection() -> None:
    assert await read(a_head(), b"hello", b" and more") == b"hello and more"


@pytest.mark.parametrize(
    "headers",
    [
        [CHUNKED],
        [("transfer-encoding", " Chunked ")],
        [CHUNKED, CHUNKED],
        [CHUNKED, ("content-length", "3")],
        [("content-length", "3"), ("content-length", "4"), CHUNKED],
    ],
)
async def test_chunks_count_for_more_than_any_length(headers: list[tuple[str, str]]) -> None:
    assert await read(a_head(*headers), b"5\r\nhello\r\n0\r\n", ends=False) == b"hello"


@pytest.mark.parametrize(
    "headers",
    [
        [("content-length", "5"), ("content-length", "6")],
        [("content-length", "5, 6")],
        [("content-length", "")],
        [("content-length", "many")],
        [("content-length", "-5")],
        [("content-length", "+5")],
        [("content-length", "5.0")],
        [("content-length", "²")],
        [("content-length", "0x5")],
        [("content-length", "9" * 5000)],
        [("transfer-encoding", "gzip, chunked")],
        [("transfer-encoding", "br")],
        [("transfer-encoding", "xchunked"), ("content-length", "5")],
    ],
)
def test_a_head_that_leaves_open_where_the_body_ends_is_refused(
    headers: list[tuple[str, str]],
) -> None:
    with pytest.raises(FetchError) as caught:
        framing_of(a_head(*headers))
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INVALID_RESPONSE, False)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 40), st.integers(1, 40))
def test_chunks_are_put_together_however_they_arrive(body: bytes, size: int, step: int) -> None:
    raw = in_chunks(body, size) + b"0\r\n\r\n"
    chunked = Chunked()
    pieces = [chunked.take(raw[at : at + step]) for at in range(0, len(raw), step)]
    assert (b"".join(pieces), chunked.finished) == (body, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"5;name=value;flag\r\nhello\r\n0\r\n\r\n",
        b"5 ; a=b\r\nhello\r\n0;c\r\n\r\n",
        b"0005\r\nhello\r\n000\r\n\r\n",
        b"5\t \r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b'3\r\nhel\r\n2;quoted="a;b"\r\nlo\r\n0\r\n',
    ],
)
async def test_extensions_and_trailers_are_no_part_of_the_body(raw: bytes) -> None:
    assert await read(a_head(CHUNKED), raw, ends=False) == b"hello"


@pytest.mark.parametrize(
    "raw", [b"5\nhello\n0\n", b"5\r\nhello\n0\r\n", b"3\nhel\r\n2;a=b\nlo\n0 \n\n"]
)
def test_lines_around_chunks_may_end_with_a_line_feed_alone(raw: bytes) -> None:
    for step in (1, len(raw)):
        chunked = Chunked()
        pieces = [chunked.take(raw[at : at + step]) for at in range(0, len(raw), step)]
        assert (b"".join(pieces), chunked.finished) == (b"hello", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"zz\r\n",
        b"\r\n\r\n",
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"\n\n",
        b"5\nhello\n\n",
        b"5 5\r\nhello\r\n",
        b"5\r\nhello!\r\n0\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"f" * 17 + b"\r\n",
        b"5;" + b"x" * 5000,
        b"5" * 5000,
    ],
)
async def test_what_is_not_chunked_is_refused_without_waiting_for_more(raw: bytes) -> None:
    with pytest.raises(FetchError) as caught:
        await read(a_head(CHUNKED), raw, ends=False)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INVALID_RESPONSE, False)


@pytest.mark.parametrize(
    ("headers", "begun"),
    [
        ([("content-length", "5")], b"hel"),
        ([("content-length", "5")], b""),
        ([CHUNKED], b""),
        ([CHUNKED], b"5"),
        ([CHUNKED], b"5\r\nhel"),
        ([CHUNKED], b"5\r\nhello"),
        ([CHUNKED], b"5\r\nhello\r\n"),
    ],
)
async def test_a_connection_that_ends_within_the_body_is_a_cut_connection(
    headers: list[tuple[str, str]], begun: bytes
) -> None:
    with pytest.raises(ConnectionResetError):
        await read(a_head(*headers), begun)


async def test_a_flood_of_one_byte_chunks_is_refused_before_much_of_it_is_parsed() -> None:
    flood = b"1\r\nx\r\n" * 1_000_000
    reader = received(flood)
    with pytest.raises(FetchError, match="too many small chunks"):
        async for _ in read_framed(reader, a_head(CHUNKED)):
            pass
    parsed_bytes = len(flood) - len(await reader.read())
    assert parsed_bytes <= framing.FRAMING_ALLOWANCE_BYTES + 2 * READ_BYTES


async def test_a_flood_of_extensions_is_refused() -> None:
    flood = b"1;%b\r\nx\r\n" % (b"x" * 4000) * 100
    with pytest.raises(FetchError, match="too many small chunks"):
        await read(a_head(CHUNKED), flood)


async def test_a_large_page_in_small_chunks_is_taken_and_leaves_the_event_loop_to_others() -> None:
    reader = received(in_chunks(bytes(5_000_000), 10), b"0\r\n\r\n")
    body_bytes = since_last_turn = most_in_a_turn = 0
    done = False

    async def take_turns() -> None:
        nonlocal since_last_turn, most_in_a_turn
        while not done:
            most_in_a_turn = max(most_in_a_turn, since_last_turn)
            since_last_turn = 0
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    async for piece in read_framed(reader, a_head(CHUNKED)):
        body_bytes += len(piece)
        since_last_turn += len(piece)
    done = True
    await others

    assert body_bytes == 5_000_000
    assert 0 < most_in_a_turn <= READ_BYTES
