"""The declared encoding, by the cases that html5lib is tested with. See `html5lib_encoding/`."""

import codecs
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.fetcher.charset import decode_text
from app.fetcher.prescan import declared_encoding

CASES = Path(__file__).parent / "html5lib_encoding"


def read_cases() -> Iterator[tuple[bytes, str]]:
    """Read the files: each case is what is behind `#data`, and behind `#encoding` its name."""
    for path in sorted(CASES.glob("*.dat")):
        for case in path.read_bytes().split(b"#data\n")[1:]:
            data, _, encoding = case.partition(b"\n#encoding\n")
            yield data, encoding.strip().decode().lower()


# One case runs a script that writes a <meta>. No script runs here, and later versions of the test
# data have that case in a folder of its own.
ALL = [case for case in read_cases() if b"ISO-8859-' + '2" not in case[0]]


def test_all_the_cases_are_there() -> None:
    assert len(ALL) == 82


@pytest.mark.parametrize(("document", "encoding"), ALL)
def test_the_declared_encoding_is_what_the_standard_finds(document: bytes, encoding: str) -> None:
    # In the cases, an encoding that is not declared is windows-1252. A byte order mark comes first.
    by_bom = "utf-8" if document.startswith(codecs.BOM_UTF8) else None
    assert (by_bom or declared_encoding(document) or "windows-1252") == encoding


@pytest.mark.parametrize(("document", "encoding"), ALL)
def test_what_is_declared_is_what_is_decoded(document: bytes, encoding: str) -> None:
    if declared_encoding(document) or document.startswith(codecs.BOM_UTF8):
        assert decode_text(document, "text/html", truncated=False)[1] == encoding


@pytest.mark.parametrize(
    ("document", "encoding"),
    [
        (b"<!--><meta charset=koi8-r>", "koi8-r"),
        (b"<!-- > <meta charset=koi8-r>", None),
        (b"<meta charset=none><meta charset=koi8-r>", "koi8-r"),
        (b"<meta charset=koi8-r", None),
        (b"<meta/charset=koi8-r>", "koi8-r"),
        (b"<metadata charset=koi8-r>", None),
        (b"<p title='<meta charset=koi8-r>'>", None),
        (b"<p title=it's><meta charset=koi8-r>", "koi8-r"),
        (b"<meta http-equiv=Content-Style-Type content='a; charset=koi8-r'>", None),
        (b"<meta content='charset charset = koi8-r;x' http-equiv=CONTENT-TYPE>", "koi8-r"),
        (b"<meta content='charset=\"koi8-r' http-equiv=content-type>", None),
        (b"<meta charset=koi8-r charset=utf-8>", "koi8-r"),
        (b"<meta charset=x-user-defined>", "windows-1252"),
        (b"<meta charset=utf-16be>", "utf-8"),
        ("<?xml encoding='utf-8'?>".encode("utf-16le"), "utf-16le"),
        ("<?xml version='1.0'?>".encode("utf-16be"), "utf-16be"),
        ("<html>".encode("utf-16be"), None),
    ],
)
def test_the_rules_that_pages_meet(document: bytes, encoding: str | None) -> None:
    assert declared_encoding(document) == encoding
