import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from app.fetcher.body import Body, read_body
from app.fetcher.decoding import MAX_PARTS, PIECE_BYTES, Decoder, decoder_for

from .codings import ENCODERS, bare_deflated, in_chunks

TEXT = b"<!doctype html><title>a page</title>" + b"<p>and its text</p>" * 5_000
LIMIT = 1_000_000

every_coding = pytest.mark.parametrize(("coding", "encode"), ENCODERS.values(), ids=ENCODERS)
Encode = Callable[[bytes], bytes]


async def read(raw: bytes, coding: str, limit: int = LIMIT, size: int = 16_384) -> Body:
    return await read_body(in_chunks(raw, size), coding, limit)


def whole(content: bytes) -> Body:
    return Body(content, truncated=False, as_labelled=True)


@every_coding
@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
async def test_a_coded_body_is_decoded_however_it_is_cut(
    coding: str, encode: Encode, size: int
) -> None:
    assert await read(encode(TEXT), coding, size=size) == whole(TEXT)


@given(st.binary(max_size=200_000), st.sampled_from(sorted(ENCODERS)), st.integers(1, 70_000))
async def test_any_bytes_survive_any_coding(data: bytes, name: str, size: int) -> None:
    coding, encode = ENCODERS[name]
    assert await read(encode(data), coding, size=max(size, len(data) // 50)) == whole(data)


@every_coding
@pytest.mark.parametrize("excess", [0, 1, 2, 224, 257, 514])
async def test_nothing_is_left_behind_in_a_decoder_that_has_filled_a_piece(
    coding: str, encode: Encode, excess: int
) -> None:
    content = bytes(PIECE_BYTES + excess)
    assert await read(encode(content), coding) == whole(content)


@pytest.mark.parametrize("coding", ["", "identity", "Identity, ", " , "])
async def test_a_body_without_coding_is_kept_as_it_is(coding: str) -> None:
    assert await read(TEXT, coding) == whole(TEXT)


@pytest.mark.parametrize("coding", ["GZIP", " gzip ", "gzip,", "identity, gzip"])
async def test_the_name_of_a_coding_may_be_written_sloppily(coding: str) -> None:
    assert await read(gzip.compress(TEXT), coding) == whole(TEXT)


@every_coding
async def test_an_empty_body_may_claim_any_coding(coding: str, encode: Encode) -> None:
    assert await read(b"", coding) == whole(b"")
    assert await read(encode(b""), coding) == whole(b"")


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_several_members_or_frames_make_one_body(name: str) -> None:
    coding, encode = ENCODERS[name]
    for size in (1, 100_000):
        assert await read(encode(b"one") + encode(b"") + encode(b"two"), coding, size=size) == (
            whole(b"onetwo")
        )


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_members_or_frames_after_the_limit_are_dropped(name: str) -> None:
    coding, encode = ENCODERS[name]
    body = await read(encode(b"x") * (MAX_PARTS + 2), coding)
    assert (body.content, body.truncated) == (b"x" * (MAX_PARTS + 1), True)


async def test_a_skippable_frame_is_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    for size in (1, 100_000):
        assert await read(skippable + zstd.compress(b"x"), "zstd", size=size) == whole(b"x")


@pytest.mark.parametrize("name", ["gzip", "deflate", "bare deflate", "zstd"])
async def test_junk_after_the_end_of_a_coded_body_is_ignored(name: str) -> None:
    coding, encode = ENCODERS[name]
    assert await read(encode(TEXT) + b"junk", coding) == whole(TEXT)
    assert await read(encode(TEXT) + b"junk" * 10_000, coding) == whole(TEXT)


async def test_junk_after_brotli_is_ignored_where_it_comes_by_itself() -> None:
    coded = ENCODERS["br"][1](TEXT)
    assert await read(coded + b"junk", "br", size=len(coded)) == whole(TEXT)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize(
    "plain",
    [
        *(TEXT, b"hi", b"{}", b"\n\n<html>", b"\x00" * 100_000),
        *(b'{\n  "a": 1\n}', b'{\n  "a": [' + b"1, " * 50_000 + b"1]\n}", b"3;5;7\n" * 2000),
    ],
)
@pytest.mark.parametrize("size", [1, 16_384])
async def test_a_plain_body_that_claims_a_coding_is_kept_as_received(
    coding: str, plain: bytes, size: int
) -> None:
    if size == 1:
        plain = plain[:10_000]  # more than twice what is looked at before a decoder is given up
    body = await read(plain, coding, size=size)
    assert body == Body(plain, truncated=False, as_labelled=False)


@pytest.mark.parametrize(
    "coding", ["gzip, gzip", "br, gzip", "deflate,gzip,br", "utf-8", "compress"]
)
async def test_two_codings_or_an_unknown_one_are_not_undone(coding: str) -> None:
    raw = gzip.compress(gzip.compress(TEXT))
    assert await read(raw, coding) == Body(raw, truncated=False, as_labelled=False)


@every_coding
async def test_a_coded_body_that_ends_too_soon_is_kept_as_far_as_it_goes(
    coding: str, encode: Encode
) -> None:
    numbers = b" ".join(b"%d" % i for i in range(100_000))
    body = await read(encode(numbers)[:-2000], coding)

    assert body.truncated
    assert body.as_labelled
    assert body.content
    assert numbers.startswith(body.content)


@every_coding
async def test_a_body_that_breaks_in_the_middle_is_kept_up_to_there(
    coding: str, encode: Encode
) -> None:
    numbers = b" ".join(b"%d" % i for i in range(100_000))
    coded = bytearray(encode(numbers))
    coded[len(coded) // 2 : len(coded) // 2 + 64] = b"\xff" * 64
    body = await read(bytes(coded), coding, size=4096)

    assert body.truncated or body.content != numbers
    assert body.content[:1000] == numbers[:1000]


@pytest.mark.parametrize("coding", ["", "gzip", "deflate", "br", "zstd"])
async def test_a_body_is_cut_at_the_limit_and_says_so(coding: str) -> None:
    encode = ENCODERS[coding][1] if coding else bytes
    for excess, truncated in ((-1, False), (0, False), (1, True), (100_000, True)):
        body = await read(encode(b"x" * (LIMIT + excess)), coding)
        assert (len(body.content), body.truncated) == (min(LIMIT + excess, LIMIT), truncated)


@every_coding
async def test_a_bomb_is_not_unpacked_past_the_limit(coding: str, encode: Encode) -> None:
    bomb = encode(bytes(30_000_000))
    tracemalloc.start()
    try:
        body = await read(bomb, coding, limit=100_000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (body.content, body.truncated) == (bytes(100_000), True)
    assert peak_bytes < 2_000_000


@every_coding
def test_a_decoder_gives_small_pieces_only(coding: str, encode: Encode) -> None:
    decoder = decoder_for(coding)
    assert decoder is not None
    pieces = list(decoder.feed(encode(bytes(3_000_000))))

    assert sum(map(len, pieces)) == 3_000_000
    assert max(map(len, pieces)) <= 1.5 * PIECE_BYTES


class Endless:
    """A body that never ends, and how much of it was asked for."""

    def __init__(self, start: bytes, again: bytes) -> None:
        self._start, self._again = start, again
        self.given_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._start
        while True:
            self.given_bytes += len(self._again)
            yield self._again


NOTHING_FROM = {
    "a file name without end": ("gzip", Endless(b"\x1f\x8b\x08\x08" + bytes(6), b"name" * 1000)),
    "empty members": ("gzip", Endless(b"", gzip.compress(b"") * 500)),
    "empty blocks": ("deflate", Endless(b"\x78\x9c", b"\x00\x00\x00\xff\xff" * 2000)),
    "skippable frames": ("zstd", Endless(b"", b"\x50\x2a\x4d\x18\x00\x00\x00\x00" * 2000)),
    "metadata blocks": ("br", Endless(b"\x0b", b"\x06" * 10_000)),
}


@pytest.mark.parametrize(("coding", "endless"), NOTHING_FROM.values(), ids=NOTHING_FROM)
async def test_a_coding_that_takes_bytes_and_gives_none_is_stopped(
    coding: str, endless: Endless
) -> None:
    body = await read_body(endless.__aiter__(), coding, 100_000)

    assert body.truncated
    assert endless.given_bytes < 300_000


async def test_reading_stops_where_the_limit_is_reached() -> None:
    endless = Endless(b"", b"x" * 10_000)
    await read_body(endless.__aiter__(), "", 100_000)

    assert endless.given_bytes <= 110_000


def test_a_decoder_says_whether_it_has_seen_the_end() -> None:
    for coding, encode in ENCODERS.values():
        decoder = decoder_for(coding)
        assert decoder is not None
        coded = encode(TEXT)
        assert drained(decoder, coded[:-1]) is False
        assert drained(decoder, coded[-1:]) is True


def drained(decoder: Decoder, data: bytes) -> bool:
    for _ in decoder.feed(data):
        pass
    return decoder.finished


async def test_a_bare_deflate_stream_may_come_byte_by_byte() -> None:
    assert await read(bare_deflated(TEXT), "deflate", size=1) == whole(TEXT)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [1, 5, 100_000])
async def test_a_wrong_checksum_does_not_lose_the_text(coding: str, size: int) -> None:
    raw = bytearray(ENCODERS[coding][1](TEXT))
    raw[-5 if coding == "gzip" else -1] ^= 1
    body = await read(bytes(raw), coding, size=size)
    assert body == Body(TEXT, truncated=True, as_labelled=True)
