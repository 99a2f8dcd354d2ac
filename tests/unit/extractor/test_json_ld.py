import json

import pytest

from app.extractor.bounds import MAX_JSON_LD_CHARACTERS, MAX_JSON_LD_OBJECTS, MAX_TEXT, Bounds
from app.extractor.json_ld import Entity, entities_in, objects_in, texts
from app.extractor.page import Element


def parse(*scripts: str, bounds: Bounds | None = None) -> list[Entity]:
    elements = [Element("script", {}, script) for script in scripts]
    return list(objects_in(elements, bounds or Bounds()))


@pytest.mark.parametrize(
    "script",
    [
        '{"a": "b"}',
        ' \n{"a": "b"}\n ',
        '\ufeff{"a": "b"}',
        '[{"a": "b"}]',
        '{"a": "b",}',
        '{"a": "b", , }',
        '{"a": "b"};',
        '/* note */ {"a": "b"}',
        '{"a": "b" // note\n}',
        '<!-- {"a": "b"} -->',
        '//<![CDATA[\n{"a": "b"}\n//]]>',
        "{&quot;a&quot;: &quot;b&quot;}",
        '{"a": "b"} {"c": ',
    ],
)
def test_flaws_that_pages_have_are_mended(script: str) -> None:
    assert parse(script) == [{"a": "b"}]


def test_what_looks_like_a_flaw_in_a_string_is_left_alone() -> None:
    text = '{"a": "http://a.test/ ,} /* x */ <!-- \\" ,]"}'
    assert parse(f"{text[:-1]},}}") == [json.loads(text)]


def test_several_objects_are_several_whatever_separates_them() -> None:
    assert parse('{"a": 1}{"a": 2},\n{"a": 3}', '[{"a": 4}, 5]') == [{"a": n} for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("script", ["", "null", "1", '"a"', "{", "nonsense", "[" * 100_000])
def test_what_holds_no_object_gives_none(script: str) -> None:
    assert parse(script) == []


def test_control_characters_are_taken_in_strings() -> None:
    assert parse('{"a": "b\n\tc"}') == [{"a": "b\n\tc"}]


def test_what_the_database_does_not_take_is_changed() -> None:
    script = (
        '{"$set": 1, "a\\u0000b": 2, "$": 3, "n": NaN, "i": 1e999, "s": "\\ud800", '
        '"big": 9223372036854775808}'
    )
    assert parse(script) == [
        {"set": 1, "ab": 2, "n": None, "i": None, "big": "9223372036854775808", "s": "?"}
    ]


def test_nesting_text_and_number_have_their_bounds() -> None:
    for script in (
        '{"a":' * 30 + "1" + "}" * 30,
        json.dumps({"a": "x" * (MAX_TEXT + 1)}),
        json.dumps([{"a": 1}] * (MAX_JSON_LD_OBJECTS + 1)),
        json.dumps({"a": ["x"] * MAX_JSON_LD_CHARACTERS}),
    ):
        bounds = Bounds()
        assert len(json.dumps(parse(script, bounds=bounds))) <= MAX_JSON_LD_CHARACTERS
        assert bounds.exceeded


def test_the_subject_of_the_page_comes_first() -> None:
    objects = parse(
        '[{"@type": "Organization"}, {"@type": "WebPage", "mainEntity": {"@type": "QAPage", '
        '"mainEntity": {"@type": "Question"}}}, {"@graph": [{"@type": ["Thing", "NewsArticle"]}]}]'
    )
    assert [entity.get("@type") for entity in entities_in(objects)] == [
        "Question",
        ["Thing", "NewsArticle"],
        "WebPage",
        "QAPage",
        "Organization",
        None,
    ]


def test_references_are_resolved_within_the_page() -> None:
    objects = parse(
        '{"@graph": [{"@type": "Article", "author": [{"@id": "#a"}, {"@id": "#b"}]}, '
        '{"@id": "#a", "name": "Jane", "knows": {"@id": "#a"}}]}'
    )
    article = entities_in(objects)[0]
    assert list(texts(article["author"], "name")) == ["Jane"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, []),
        ("a", ["a"]),
        (2024, ["2024"]),
        (True, []),
        (["a", {"name": "b"}], ["a", "b"]),
        ({"@value": "a", "@language": "en"}, ["a"]),
        ({"@list": [{"name": ["a", "b"]}]}, ["a", "b"]),
        ({"url": "x"}, []),
    ],
)
def test_a_value_may_be_written_in_many_ways(value: object, found: list[str]) -> None:
    assert list(texts(value, "name")) == found
