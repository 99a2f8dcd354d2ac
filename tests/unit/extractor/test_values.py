"""Single values: dates, names, languages, lengths, text."""
# ruff: noqa: RUF001 (characters that look like others are what some examples are about)

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.extractor.dates import parse_date
from app.extractor.image import pixels
from app.extractor.language import language_tag
from app.extractor.names import author_name
from app.extractor.text import clean

DATES = {
    "2024-05-01": "2024-05-01T00:00",
    " 2024-05-01T06:00:00+09:00 ": "2024-04-30T21:00",
    "2024-05-01T12:00:00.123456789Z": "2024-05-01T12:00:00.123456",
    "2024-05-01 12:30": "2024-05-01T12:30",
    "2024-05-01T12:00+0200": "2024-05-01T10:00",
    "2024-05": "2024-05-01T00:00",
    "2024": "2024-01-01T00:00",
    "20240501": "2024-05-01T00:00",
    "20240501T123000Z": "2024-05-01T12:30",
    "2024/05/01": "2024-05-01T00:00",
    "01.05.2024": "2024-05-01T00:00",
    "5/13/2024": "2024-05-13T00:00",
    "13/5/2024": "2024-05-13T00:00",
    "May 1, 2024": "2024-05-01T00:00",
    "1st May 2024": "2024-05-01T00:00",
    "May 2024": "2024-05-01T00:00",
    "Wed, 01 May 2024 10:00:00 -0500": "2024-05-01T15:00",
    "Wednesday, May 1, 2024 at 3:04 PM EST": "2024-05-01T20:04",
    "May 1, 2024 12:15 a.m.": "2024-05-01T00:15",
    "Sat May 11 2024 10:00:00 GMT+0200 (CEST)": "2024-05-11T08:00",
    "Wed May 01 10:00:00 CEST 2024": "2024-05-01T08:00",
    "1. Mai 2024": "2024-05-01T00:00",
    "12 de mayo de 2024": "2024-05-12T00:00",
    "1er mai 2024 à 10:00": "2024-05-01T10:00",
    "3 июня 2024, 15:40": "2024-06-03T15:40",
    "2024年5月1日 10:20": "2024-05-01T10:20",
    "31.05.2024. 10:30": "2024-05-31T10:30",
    "May 31, 2024. 12 comments": "2024-05-31T00:00",
    "2024년 5월 1일": "2024-05-01T00:00",
    "١ مايو ٢٠٢٤": "2024-05-01T00:00",
    "1714557600": "2024-05-01T10:00",
    "1714557600000": "2024-05-01T10:00",
}


@pytest.mark.parametrize(("text", "moment"), DATES.items())
def test_a_date_is_read_in_the_forms_pages_have(text: str, moment: str) -> None:
    assert parse_date(text) == datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "today",
        "2024-13-45",
        "0001-01-01",
        "99999999999999",
        "12:30",
        "1 Foo 2024",
        "9999-12-31T23:59:59-23:00",
    ],
)
def test_a_text_that_is_no_date_gives_none(text: str) -> None:
    assert parse_date(text) is None


@given(st.text() | st.text("0123456789-/.: TZ+年月日aApPmM").map("2024-05-01 {}".format))
def test_any_text_is_a_date_or_none(text: str) -> None:
    moment = parse_date(text)
    assert moment is None or moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Jane Doe", "Jane Doe"),
        ("By Jane Doe", "Jane Doe"),
        ("by: Jane Doe |", "Jane Doe"),
        ("Written by <b>Jane</b> Doe", "Jane Doe"),
        ("Von Jana Müller", "Jana Müller"),
        ("Jane Doe on 3 May", "Jane Doe"),
        ("Jane Doe (jane@a.test)", "Jane Doe"),
        ("jane@a.test (Jane Doe)", "Jane Doe"),
        ("Byron Parr", "Byron Parr"),
        ("Parvati Di Leo", "Parvati Di Leo"),
        ("記者：王曉明", "王曉明"),
        ("https://a.test/jane", None),
        ("//a.test/jane", None),
        ("@jane", None),
        ("admin", None),
        ("View all posts by Jane Doe", "Jane Doe"),
        ("Zeige alle Beiträge von Jana Müller →", "Jana Müller"),
        ("Voir tous les articles de Jeanne Dupont", "Jeanne Dupont"),
        ("Veröffentlicht von der Michel", "der Michel"),
        ("Interview: Jana Müller", "Jana Müller"),
        ("Autor/in: Jana Müller", "Jana Müller"),
        ("Authors Guild", "Authors Guild"),
        ("von Jana Müller", "Jana Müller"),
        ("Von Trapp", "Von Trapp"),
        ("Ursula von der Linden", "Ursula von der Linden"),
        ("Jane Doe (in Rome)", "Jane Doe"),
        ("Jane (Jo) Doe", "Jane (Jo) Doe"),
        ("Jane Doe @jane", "Jane Doe"),
        ("(Jane Doe)", "Jane Doe"),
        ("By | Jane Doe", "Jane Doe"),
        ("Foto: Jana Müller", None),
        ("No Author", None),
        ("Archiv anzeigen →", None),
        ("Posted", None),
        ("By", None),
        ("By on", None),
        ("Updated:", None),
        ("?", None),
        ("2024", None),
        ("", None),
    ],
)
def test_a_name_is_kept_without_what_stands_around_it(text: str, name: str | None) -> None:
    assert author_name(text) == name


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("en", "en"),
        ("EN_us", "en-US"),
        ("zh-hans-cn", "zh-Hans-CN"),
        ("es-419", "es-419"),
        ("ca-valencia", "ca-valencia"),
        ("en-US, fr", "en-US"),
        ("pt_BR.UTF-8", "pt-BR"),
        ("English", "en"),
        ("", None),
        ("x-default", None),
        ("und", None),
        ("klingonisch", None),
        ("{{ lang }}", None),
    ],
)
def test_a_language_becomes_a_tag(text: str, tag: str | None) -> None:
    assert language_tag(text) == tag


@pytest.mark.parametrize(
    ("value", "length"),
    [
        ("1200", 1200),
        ("1200px", 1200),
        (630, 630),
        (630.0, 630),
        ({"value": "5"}, 5),
        ("100%", None),
        ("", None),
        (None, None),
        (0, None),
        ("-1", None),
        ("²", None),
        ("9" * 9, None),
    ],
)
def test_a_length_is_a_number_of_pixels_or_none(value: object, length: int | None) -> None:
    assert pixels(value) == length


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (" a \n\t b ", "a b"),
        ("a &amp; b", "a & b"),
        ("a &amp;amp; b", "a & b"),
        ("a & b &c; &", "a & b &c; &"),
        ("<p>a <b>b</b></p>", "a b"),
        ("The <canvas> element", "The <canvas> element"),
        ("a < b > c", "a < b > c"),
        ("a\u200bb\u202ec\0", "abc"),
    ],
)
def test_text_is_in_one_line_and_decoded(text: str, plain: str) -> None:
    assert clean(text) == plain
