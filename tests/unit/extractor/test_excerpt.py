"""What is cut out of a page, and that no page makes it much."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.extractor import excerpt
from app.extractor.excerpt import MAX_EXCERPT_CHARACTERS, MAX_STEPS, excerpt_of


def pieces(html: str) -> list[str]:
    return excerpt_of(html).html.removeprefix("<!doctype html>").split("\n")


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        ("<p><meta name=a content=b><p>", "<meta name=a content=b>"),
        ("<META NAME=a>", "<META NAME=a>"),
        ("""<meta content='a "b" >'>""", """<meta content='a "b" >'>"""),
        ("<meta name=a/>", "<meta name=a/>"),
        ("<title>A &lt;b&gt; <i></title>", "<title>A &lt;b&gt; <i></title>"),
        ("<h1 class=a>A<b>b</b>c<br>d</h1>", "<h1 class=a>Abc d</h1>"),
        ("<a rel=author href=/x>Jane <i>Doe</i></a>", "<a rel=author href=/x>Jane Doe</a>"),
        ("<td itemprop=author>Jane</td>", "<span itemprop=author>Jane</span>"),
        ("<p class=byline>By Jane<p>Text", "<span class=byline>By Jane</span>"),
        ("<p class=post-date>1 May 2024<p>", "<span class=post-date>1 May 2024</span>"),
        ("<time datetime=2024>May</time>", "<time datetime=2024>May</time>"),
        ("1 < 2 <3 <meta name=a>", "<meta name=a>"),
        ("<p title=it's><meta name=a>", "<meta name=a>"),
        ('<p>"a" = "<b>b</b><meta name=a>', "<meta name=a>"),
        ("<b>= '</b><meta name=a>", "<meta name=a>"),
        ('<b>= "</b><?--><meta name=a>', "<meta name=a>"),
        ('<b>= "</b><< <<b><meta name=a>', "<meta name=a>"),
        ("<svg><title>A</title></svg><title>B</title>", "<title>B</title>"),
        ("<template><meta name=a></template><meta name=b>", "<meta name=b>"),
        ("<!--><meta name=a>", "<meta name=a>"),
        ("<svg><meta name=a>", "<meta name=a>"),
    ],
)
def test_elements_that_say_something_are_kept(html: str, kept: str) -> None:
    assert pieces(html) == [kept]


@pytest.mark.parametrize(
    "html",
    [
        "",
        "text",
        "<!-- <meta name=a> -->",
        "<!-- <meta name=a>",
        "<script>'<meta name=a>'</script>",
        "<script><meta name=a>",
        "<style><meta name=a></style>",
        "<textarea><meta name=a></textarea>",
        """<p title="<meta name=a>">""",
        "<p title='<meta name=a>'>",
        "<p title = '<meta name=a>' >",
        '<p title="<b>b</b> <meta name=a>">',
        "<p title = '<b>b</b> <meta name=a>'>",
        """<p title='a > "b" > <meta name=a>'>""",
        """<b class="c"><p title=" it's > <meta name=a>">""",
        "<p a=<meta name=a>",
        "<link rel=stylesheet href=a.css>",
        "<metadata><linked><h11>",
        "<meta name=a",
        "<meta name='a>",
        "<a href=/update data-meta=date>1 May 2024</a>",
        "<p>the author of itemprop and bylines</p>",
    ],
)
def test_other_elements_are_left_out(html: str) -> None:
    assert pieces(html) == [""]


HOSTILE = {
    "nesting": "<div>" * 200_000,
    "formatting": "".join(f"<b id={n}>" for n in range(40_000)) + "<p>x" * 100_000,
    "formatting reopened": "<p>" + "".join(f"<b id={n}>" for n in range(2000)) + "<p>x" * 2000,
    "attributes": "<meta " + " ".join(f"a{n}=" for n in range(100_000)) + ">",
    "attributes of html": "".join(f"<html a{n}=1>" for n in range(70_000)),
    "signs": "<" * 1_000_000,
    "NULs": "\0" * 1_000_000,
    "entities": "<title>" + "&amp;" * 200_000,
    "unclosed comments": "<!--" * 250_000,
    "unclosed quotes": '<p a="' * 150_000,
    "unclosed scripts": "<script>" + "</scrip" * 150_000,
    "metas": "<meta property=og:image content=x>" * 30_000,
    "long metas": f"<meta property=og:image content={'x' * 15_000}>" * 60,
    "images": "<img src=a>" * 90_000,
    "headings": "<h1>" * 250_000,
    "authors": "<p class=author>" * 60_000,
    "dates": "<h1>1 May 2024</h1><p class=date>1 May 2024</p>" * 20_000,
    "JSON-LD": '<script type="application/ld+json">{"a":[1]}</script>' * 20_000,
    "tables": "<table><tr><td>" * 60_000,
}


@pytest.mark.parametrize("html", HOSTILE.values(), ids=HOSTILE)
def test_what_is_parsed_is_small_whatever_the_page_is(
    html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    step = excerpt._Reader._step  # noqa: SLF001 (its calls are the work that is bounded)

    def counted(reader: excerpt._Reader, at: int) -> int:
        nonlocal steps
        steps += 1
        return step(reader, at)

    monkeypatch.setattr(excerpt._Reader, "_step", counted)  # noqa: SLF001 (as above)
    found = excerpt_of(html)
    assert steps <= MAX_STEPS
    assert len(found.html) <= MAX_EXCERPT_CHARACTERS + 1000
    assert found.html.count("<") <= 2000


@pytest.mark.parametrize("length", range(excerpt._SEARCHED_AT_ONCE - 12, excerpt._SEARCHED_AT_ONCE))  # noqa: SLF001 (its end may be in the middle of a tag)
def test_an_element_is_found_wherever_it_stands(length: int) -> None:
    assert pieces("x" * length + "<link rel=a><b>b</b><meta name=a>") == [
        "<link rel=a>",
        "<meta name=a>",
    ]


MARKUP = st.sampled_from(
    [
        *("<", ">", "</", "<!--", "-->", "<?", "<!x", "a", " ", "=", '"', "'", "/", "\n"),
        *('x="', "y='", "<b ", "<b>", "</b>", "<p a=", '<p t="<meta b>">', "<meta ", "<meta a>"),
        *("<svg>", "</svg>", "<script>", "</script>", "<title>", "</title>", "<h1>", "<img>" * 30),
    ]
)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(MARKUP).map("".join))
def test_what_is_passed_over_unread_would_have_been_passed_over_by_reading(html: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(excerpt._Reader, "_is_outside_of_tags", lambda *_: False)  # noqa: SLF001 (with it nothing is passed over unread)
        by_reading = excerpt_of(html)
    assert excerpt_of(html) == by_reading


def test_one_mention_of_authors_after_another_costs_a_bounded_time() -> None:
    author = "<p class=author>Jane</p>"
    mentions = "<b>" + "author " * (excerpt._MAX_SIGNS // 2)  # noqa: SLF001 (the bound)
    assert pieces(f"{mentions}<!-- -->{author}") == ["<span class=author>Jane</span>"]
    assert pieces(f"{mentions}<!-- -->{mentions}<!-- -->{author}") == [""]


def test_no_date_is_looked_for_in_the_text_behind_one_that_is_certain() -> None:
    certain, text = "<meta property=article:published_time>", "<p class=date>1 May 2024</p>"
    assert pieces(text + certain) == ["<span class=date>1 May 2024</span>", certain]
    assert pieces(certain + text) == [certain]


JSON_LD = '<script type="application/ld+json">{}</script>'
BYLINE = "<p class=byline>Jane Doe</p>"


@pytest.mark.parametrize(
    "author",
    [
        '{"@type": "Person", "name": "John Roe"}',
        '[{"name": "John Roe", "@type": ["Person"]}, {"@type": "Person", "name": "Roe"}]',
    ],
)
def test_no_byline_is_looked_for_behind_a_person_who_wrote_the_page(author: str) -> None:
    told = JSON_LD.format(f'{{"author": {author}}}')
    assert pieces(told + BYLINE) == [told]
    assert pieces(BYLINE + told) == ["<span class=byline>Jane Doe</span>", told]


@pytest.mark.parametrize(
    "author",
    [
        '"John Roe"',
        '{"@type": "Organization", "name": "The Times"}',
        '{"@type": "Person", "name": "admin"}',
        '{"@type": "Person"}, "publisher": {"@type": "Person", "name": "John Roe"}',
    ],
)
def test_a_byline_is_looked_for_where_it_is_not_certain_who_wrote_the_page(author: str) -> None:
    told = JSON_LD.format(f'{{"author": {author}}}')
    assert pieces(told + BYLINE) == [told, "<span class=byline>Jane Doe</span>"]


def test_listed_elements_that_were_left_out_are_told() -> None:
    assert excerpt_of("<meta name=a>" * 401).truncated
    assert excerpt_of("<meta " + "a " * 100 + ">").truncated
    assert not excerpt_of("<img src=a>" * 1000).truncated
    assert not excerpt_of("<meta name=a>" * 400).truncated


@given(
    st.lists(
        st.sampled_from(
            [
                "<",
                ">",
                "</",
                "<!--",
                "-->",
                "a",
                " ",
                "=",
                '"',
                "'",
                "meta",
                "svg",
                "script",
                "itemprop",
                "/",
                "\0",
            ]
        )
    ).map("".join)
)
def test_any_text_is_read_to_its_end(html: str) -> None:
    assert not excerpt_of(html).truncated or "meta" in html or "script" in html
