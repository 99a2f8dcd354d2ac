import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fetcher.charset import (
    charset_parameter,
    decode_text,
    essence,
    is_text,
)
from app.fetcher.prescan import declared_encoding

RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. "
JAPANESE = "いろはにほへと ちりぬるを、今日は天気がいいですね。\n"
FRENCH = "Voilà l'été : crêpes, pâtés et gâteaux à volonté. "


def decode(content: bytes, content_type: str | None = None) -> tuple[str, str]:
    return decode_text(content, content_type, truncated=False)


@pytest.mark.parametrize(
    ("bom", "codec", "name"),
    [
        (codecs.BOM_UTF8, "utf-8", "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16le"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16be"),
    ],
)
def test_a_byte_order_mark_counts_for_more_than_anything_else(
    bom: bytes, codec: str, name: str
) -> None:
    page = "<meta charset=windows-1251>é"
    assert decode(bom + page.encode(codec), "text/html; charset=koi8-r") == (page, name)


def test_the_content_type_counts_for_more_than_the_document() -> None:
    page = f"<meta charset=windows-1251>{RUSSIAN}"
    assert decode(page.encode("koi8-r"), "text/html; charset=koi8-r") == (page, "koi8-r")


@pytest.mark.parametrize(
    ("declaration", "name"),
    [
        ('<meta charset="windows-1251">', "windows-1251"),
        ("<meta charset=windows-1251>", "windows-1251"),
        ("<META CHARSET = ' CP1251 '>", "windows-1251"),
        ("<meta name=x content=y><meta charset=cp1251/>", "windows-1251"),
        ('<meta http-equiv=Content-Type content="text/html; charset=koi8-r">', "koi8-r"),
        ("<!-- <meta charset=utf-8> --><meta charset=koi8-r>", "koi8-r"),
        ('<?xml version="1.0" encoding="koi8-r"?>', "koi8-r"),
        ("<?xml version='1.0' encoding='windows-1251' standalone='yes'?>", "windows-1251"),
    ],
)
def test_the_document_may_name_its_encoding(declaration: str, name: str) -> None:
    page = declaration + RUSSIAN
    assert decode(page.encode(name), "text/html") == (page, name)


def test_a_document_that_says_utf_16_in_ascii_is_utf_8() -> None:
    page = f"<meta charset=utf-16>{RUSSIAN}"
    assert decode(page.encode()) == (page, "utf-8")


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        (RUSSIAN * 3, "utf-8", "utf-8"),
        (RUSSIAN * 3, "cp1251", "windows-1251"),
        (RUSSIAN * 3, "koi8-r", "koi8-r"),
        (JAPANESE * 3, "shift_jis", "shift_jis"),
        (JAPANESE * 3, "euc_jp", "euc-jp"),
        ("这是一个中文网页。今天天气很好。" * 5, "gb18030", "gb18030"),
        ("한국어 페이지입니다. 오늘 날씨가 좋습니다. " * 5, "euc_kr", "euc-kr"),
        (FRENCH * 3, "cp1252", "windows-1252"),
        ("hello", "ascii", "utf-8"),
        ("", "ascii", "utf-8"),
    ],
)
def test_an_encoding_nobody_names_is_found_out(text: str, codec: str, name: str) -> None:
    for page in (text, f"<!doctype html><title>{text}</title>"):
        assert decode(page.encode(codec)) == (page, name)


def test_non_ascii_text_is_found_late_in_a_page() -> None:
    for text, codec, name in (
        (RUSSIAN, "cp1251", "windows-1251"),
        (JAPANESE, "cp932", "shift_jis"),
    ):
        page = "<p>hello</p>" * 50_000 + text * 1000
        assert decode(page.encode(codec)) == (page, name)


@pytest.mark.parametrize("codec", ["shift_jis", "euc_jp"])
@pytest.mark.parametrize("shift", range(4))
def test_the_detected_part_of_a_page_is_cut_between_characters(codec: str, shift: int) -> None:
    page = JAPANESE[0] + "-" * shift + JAPANESE[1:] * 1000
    assert decode(page.encode(codec))[0] == page


def test_one_slip_does_not_make_utf_8_another_encoding() -> None:
    assert decode(RUSSIAN.encode() * 5 + b"\xff" + RUSSIAN.encode())[1] == "utf-8"


@pytest.mark.parametrize("content", [b"caf\xe9", b"\x80 \x93quoted\x94", b"\xa9 2026 somebody"])
def test_windows_1252_is_the_last_resort(content: bytes) -> None:
    assert decode(content) == (content.decode("cp1252"), "windows-1252")


@pytest.mark.parametrize(
    "label",
    [
        "utf8mb4",
        "none",
        "hz-gb-2312",
        "iso-2022-kr",
        "replacement",
        "zlib",
        "rot13",
        "idna",
        "\xff",
    ],
)
def test_a_label_that_names_no_encoding_does_not_lose_the_page(label: str) -> None:
    for page, content_type in (
        (RUSSIAN, f"text/html; charset={label}"),
        (f"<meta charset='{label}'>{RUSSIAN}", "text/html"),
    ):
        assert decode(page.encode(), content_type) == (page, "utf-8")


@pytest.mark.parametrize("label", ["iso-8859-1", "latin1", "us-ascii", "ASCII", '"Windows-1252"'])
def test_a_label_means_what_it_means_to_browsers(label: str) -> None:
    assert decode(b"caf\xe9 \x80", f"text/html; charset={label}") == ("café €", "windows-1252")


@pytest.mark.parametrize(
    "parameter", ["charset=koi8-r", "CharSet = 'koi8-r'", 'a=b;charset="koi8-r"']
)
def test_the_charset_parameter_may_be_written_sloppily(parameter: str) -> None:
    assert decode(RUSSIAN.encode("koi8-r"), f"text/html;{parameter}")[1] == "koi8-r"


@pytest.mark.parametrize(
    ("content_type", "label"),
    [
        ("text/html;charset=gbk", "gbk"),
        ("text/html;CHARSET=gbk;charset=utf-8", "gbk"),
        ("text/html;charset=gbk ", "gbk"),
        ("text/html;charset= gbk", "gbk"),
        ("text/html;charset =gbk", "gbk"),
        ("text/html;a;;charset=gbk;b", "gbk"),
        ('text/html;charset="gbk"', "gbk"),
        ('text/html;charset="g\\b\\k"', "gbk"),
        ('text/html;charset="gbk"ignored;charset=utf-8', "gbk"),
        ('text/html;charset="gbk', "gbk"),
        ('text/html;a=";charset=utf-8";charset=gbk', "gbk"),
        ('text/html;a="\\";charset=utf-8";charset=gbk', "gbk"),
        ("text/html;xcharset=utf-8;charset=gbk", "gbk"),
        ("text/html;charset", None),
        ("text/html;charset=", None),
        ('text/html;charset=""', None),
        ("text/html;charset-x=gbk", None),
        ("text/html", None),
        (None, None),
    ],
)
def test_the_first_charset_parameter_counts_as_the_standard_reads_it(
    content_type: str | None, label: str | None
) -> None:
    assert charset_parameter(content_type) == label


def test_what_a_comment_that_is_not_closed_says_does_not_count() -> None:
    assert declared_encoding(b"<!-- <meta charset=koi8-r>") is None
    assert declared_encoding(b"<!-- --><meta charset=koi8-r>") == "koi8-r"


def test_what_is_wrong_in_the_encoding_chosen_becomes_a_replacement_character() -> None:
    assert decode(b"caf\xe9!", "text/html; charset=utf-8") == ("caf\ufffd!", "utf-8")


@pytest.mark.parametrize("codec", ["utf-8", "shift_jis", "utf-16le"])
def test_a_character_cut_in_half_by_the_limit_is_left_out(codec: str) -> None:
    content = "いろ".encode(codec)[:-1]
    assert decode_text(content, f"text/html; charset={codec}", truncated=True)[0] == "い"
    assert decode(content, f"text/html; charset={codec}")[0].startswith("い\ufffd")


@given(
    content=st.binary(max_size=300),
    label=st.sampled_from(
        [
            "utf-8",
            "utf-16le",
            "utf-16be",
            "gb18030",
            "iso-2022-jp",
            "big5",
            "euc-kr",
            "euc-jp",
            "shift_jis",
            "windows-874",
            "x-user-defined",
            "macintosh",
            "iso-8859-8-i",
            "utf-7",
            "none",
        ]
    ),
    truncated=st.booleans(),
)
def test_any_bytes_become_text_that_can_be_stored(
    content: bytes, label: str, *, truncated: bool
) -> None:
    text, _ = decode_text(content, f"text/html; charset={label}", truncated=truncated)
    text.encode("utf-8")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/html; charset=utf-8", "text/html"),
        (" Text/HTML ", "text/html"),
        ("application/ld+json;x", "application/ld+json"),
        ("text", None),
        ("; charset=utf-8", None),
        ("", None),
        (None, None),
    ],
)
def test_the_essence_of_a_content_type_is_its_type_alone(
    content_type: str | None, expected: str | None
) -> None:
    assert essence(content_type) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "text/plain",
        "text/css",
        "text/x-anything",
        "TEXT/HTML;a=b",
        "application/json",
        "application/ld+json",
        "application/xml",
        "application/xhtml+xml",
        "application/rss+xml",
        "image/svg+xml",
        "application/javascript",
        "application/x-javascript",
    ],
)
def test_text_is_known_by_its_type(content_type: str) -> None:
    assert is_text(b"\x00\x01", content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "application/pdf",
        "application/octet-stream",
        "video/mp4",
        "font/woff2",
        "application/zip",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ],
)
def test_the_rest_is_known_by_its_type_too(content_type: str) -> None:
    assert not is_text(b"hello", content_type)


@pytest.mark.parametrize("content_type", [None, "", "text", "*/*", "unknown/unknown", "nonsense"])
def test_where_there_is_no_type_the_bytes_tell(content_type: str | None) -> None:
    for text in (b"", b"hello\r\n\t\x0c\x1b", "é".encode(), codecs.BOM_UTF16_LE + b"h\x00"):
        assert is_text(text, content_type)
    for binary in (b"\x89PNG\r\n\x1a\n", b"%PDF-1.7\n\x00", b"\x1f\x8b\x08", b"a\x00b"):
        assert not is_text(binary, content_type)
