"""The document as a whole: that any page gives one, of a bounded size, that can be kept."""
# ruff: noqa: RUF001 (one character is chosen for being beyond the basic plane)

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.extractor.document import extract
from app.models import Document, Header
from tests.unit.extractor.test_excerpt import HOSTILE

URL = "http://a.test/x/y"
MAX_DOCUMENT_BYTES = 1_000_000
ADAPTER = TypeAdapter(Document)

WORDS = st.sampled_from(
    [
        "<meta ", "<link ", "<title>", "<base href=", "<time datetime=", "<img src=", "<h1>",
        '<script type="application/ld+json">', "</script>", "<html lang=", ">", '"', "'", " ",
        "property=", "content=", "name=", "rel=", "href=", "itemprop=", "og:title", "og:image",
        "author", "canonical", "icon", "//", "http:", "[", "]", "{", "}", ":", ",", "@type", "2024",
        "&amp;", "&#0;", "&#xD800;", "\0", "é", "\ud800", "𝒳", "\n",
    ]
)  # fmt: skip


def kept(document: Document) -> dict[str, object]:
    return dict(bson.decode(bson.encode({"document": ADAPTER.dump_python(document)}))["document"])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(WORDS).map("".join) | st.text(), st.text())
def test_any_text_gives_a_document_that_can_be_kept(html: str, header: str) -> None:
    document = extract(html, URL, [Header("link", header), Header("x-robots-tag", header)])
    assert ADAPTER.validate_python(kept(document)).title == document.title
    ADAPTER.dump_json(document)


@pytest.mark.parametrize("html", HOSTILE.values(), ids=HOSTILE)
def test_no_page_gives_a_large_document(html: str) -> None:
    assert len(ADAPTER.dump_json(extract(html, URL))) <= MAX_DOCUMENT_BYTES


@pytest.mark.parametrize(
    "element",
    [
        '<meta property="og:{n}" content="{x}">',
        '<meta name="twitter:{n}" content="{x}">',
        '<meta property="og:image" content="{x}{n}">',
        '<link rel="icon" href="/{n}" sizes="{x}">',
        '<link rel="alternate" hreflang="{x}" href="/{n}">',
        '<link rel="alternate" type="application/rss+xml" title="{x}" href="/{n}">',
        '<script type="application/ld+json">{{"name": "{x}", "n": {n}}}</script>',
    ],
)
def test_what_is_too_much_is_cut_and_told(element: str) -> None:
    page = "".join(element.format(n=n, x="x" * 6000) for n in range(60))
    document = extract(page, URL)
    assert document.truncated
    assert len(ADAPTER.dump_json(document)) <= MAX_DOCUMENT_BYTES
    assert not extract(element.format(n=1, x="x"), URL).truncated


def test_a_long_title_is_cut_and_told() -> None:
    document = extract(f"<title>{'x' * 1500}</title>", URL)
    assert document.title == "x" * 999 + "…"
    assert document.truncated


def test_urls_start_from_the_first_base() -> None:
    page = "<base target=a><base href=/b/><base href=/c/><link rel=canonical href=d>"
    assert extract(page, URL).canonical_url == "http://a.test/b/d"
    assert extract("<base href=data:x><link rel=canonical href=d>", URL).canonical_url == (
        "http://a.test/x/d"
    )


def test_the_link_header_names_a_canonical_url_too() -> None:
    link = Header(
        "link", '</a.css>; rel="preload", </b?c=1,2>; title="x, y"; rel="nofollow canonical"'
    )
    assert extract("", URL, [link]).canonical_url == "http://a.test/b?c=1,2"


@pytest.mark.parametrize(
    ("page", "image"),
    [
        (
            '<meta property="og:image" content="data:x"><meta name="twitter:image" content="/t">',
            "/t",
        ),
        ('<meta property="og:image:alt" content="a"><meta property="og:image" content="/o">', "/o"),
        ('<link rel="image_src" href="/s"><meta name="image" content="/m">', "/s"),
        ('<meta name="thumbnail" content="/m">', "/m"),
        ('<img src="/logo.png"><img src="/a.jpg"><img src="/b.jpg" width="600">', "/b.jpg"),
        ('<img src="/a.jpg" width="40"><img data-src="/b.jpg" src="data:x">', "/b.jpg"),
        ('<img src="/tiny.gif" width=1 height=1>', None),
        ("", None),
    ],
)
def test_an_image_is_looked_for_in_many_places(page: str, image: str | None) -> None:
    found = extract(page, "http://a.test/").image
    assert (found and found.url) == (image and f"http://a.test{image}")


@pytest.mark.parametrize("label", ["Written by", "Verfasst von", "Écrit par"])
def test_a_twitter_card_may_name_the_author_beside_a_label(label: str) -> None:
    page = f'<meta name="twitter:label1" content="{label}"><meta name="twitter:data1" content="Jo">'
    assert extract(page, URL).author == "Jo"


@pytest.mark.parametrize(
    ("byline", "author"),
    [
        ("<p class=byline>By Jane Doe on March 3, 2024</p>", "Jane Doe"),
        ("<p class=byline>Von Jana Müller am Samstag, 19. Oktober</p>", "Jana Müller"),
        ("<p class=byline>von Jana</p>", "Jana"),
        ("<p class=byline>| <a class=author>Jane Doe</a></p>", "Jane Doe"),
        ("<p class=byline>By <a class=author>Jane Doe</a>, our man in Rome</p>", "Jane Doe"),
        (
            "<p class=byline>By <a class=author>Jane</a> and <a class=author>Jo</a> in Rome</p>",
            "Jane, Jo",
        ),
        ("<b class=byline>Posted by</b> <b class=author>Jane Doe</b>", "Jane Doe"),
        ("<p class=comment-author>Troll</p><p class=author-name>Jane Doe</p>", "Jane Doe"),
        ("<p class=author-bio>Jane was born in Rome</p>", None),
        ("<label class=authorization>Accept</label>", None),
        (f"<div class=author>{'A headline ' * 9} Jane Doe</div>", None),
        ("<p class=author>12 articles</p>", None),
        ("<p class=byline>By Jane Doe, published 3 March</p>", "Jane Doe"),
        ("<p class=byline>on</p>", None),
        ("<meta name=author content='[1e999, NaN]'>", None),
    ],
)
def test_a_byline_is_known_by_its_class(byline: str, author: str | None) -> None:
    assert extract(byline, URL).author == author


@pytest.mark.parametrize(
    ("links", "author"),
    [
        ("<a href=/author/jane>Jane Doe</a>", "Jane Doe"),
        (
            "<a href=/author/jane>Jane Doe</a> <a href=/author/jane>All posts by Jane Doe</a>",
            "Jane Doe",
        ),
        ("<a href=/author/jane>Jane Doe</a> <a href=/author/jo>Jo</a>", None),
        ("<a href=/authors>Our authors</a>", None),
        ("<a rel=author href=/jane>Jane Doe</a> <a rel=author href=/jo>Jo</a>", "Jane Doe"),
    ],
)
def test_a_link_to_an_author_names_the_author(links: str, author: str | None) -> None:
    assert extract(links, URL).author == author


@pytest.mark.parametrize(
    ("page", "author"),
    [
        ("<b itemprop=author>Jane</b><b itemprop=author>Jo</b>", "Jane, Jo"),
        ("<b itemprop=author>Jane</b><b itemprop=text>Hello</b><b itemprop=author>Jo</b>", "Jane"),
        ("<b itemprop=review>Good<b itemprop=author>Jo</b></b>", None),
    ],
)
def test_authors_of_comments_and_reviews_have_not_written_the_page(
    page: str, author: str | None
) -> None:
    assert extract(page, URL).author == author


@pytest.mark.parametrize("site", ["a.test", "The Paper"])
def test_the_site_is_the_author_only_if_nobody_else_is(site: str) -> None:
    page = (
        '<meta property="og:site_name" content="The Paper">'
        f'<meta property="article:author" content="{site}">'
    )
    assert extract(page, URL).author == site
    assert extract(f"{page}<p class=byline>By Jane Doe</p>", URL).author == "Jane Doe"


@pytest.mark.parametrize(
    ("content", "author"),
    [
        ('{"@type": "Person", "name": "Jane Doe"}', "Jane Doe"),
        ('[{"name": "Jane Doe"}, {"name": "Jo"}]', "Jane Doe, Jo"),
        ('{"name": ', None),
        ("[" * 5000, None),
        ("[" * 900 + "]" * 900, None),
    ],
)
def test_json_is_not_taken_for_a_name(content: str, author: str | None) -> None:
    assert extract(f"<meta name=author content='{content}'>", URL).author == author


def test_a_longer_form_of_a_name_is_not_another_author() -> None:
    page = '<meta name="author" content="Jane Doe"><meta name="author" content="Jane Doe in Rome">'
    assert extract(page, URL).author == "Jane Doe"


@pytest.mark.parametrize(
    ("headline", "name", "title"),
    [
        ("city in Italy", "Rome", "Rome"),
        ("All about Rome", "The Paper", "All about Rome"),
        ("Rome", "Rome – The Paper", "Rome"),
    ],
)
def test_of_headline_and_name_the_title_begins_with_one(
    headline: str, name: str, title: str
) -> None:
    page = (
        "<title>Rome – The Paper</title>"
        '<script type="application/ld+json">'
        f'{{"@type": "Article", "headline": "{headline}", "name": "{name}"}}</script>'
    )
    assert extract(page, URL).title == title


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("The Example » Feed", "The Example"),
        ("The Example RSS Feed", "The Example"),
        ("The Example - Atom", "The Example"),
        (" » Feed", None),
        ("RSS 2.0", None),
        ("News", None),
    ],
)
def test_the_title_of_a_feed_may_name_the_site(title: str, name: str | None) -> None:
    page = f'<link rel="alternate" type="application/rss+xml" title="{title}" href="/feed">'
    assert extract(page, URL).site_name == name


@pytest.mark.parametrize(
    ("title", "url", "name"),
    [
        ("A story | The Example", "https://www.example.com/a", "The Example"),
        ("Example: A story", "https://example.com/a", "Example"),
        ("A story - Other", "https://example.com/a", None),
        ("Example", "https://example.com/a", None),
    ],
)
def test_a_title_may_name_the_site_if_its_host_is_called_so(
    title: str, url: str, name: str | None
) -> None:
    assert extract(f"<title>{title}</title>", url).site_name == name


@pytest.mark.parametrize(
    ("json_ld", "kind"),
    [
        ('{"@type": "BlogPosting"}', "article"),
        ('{"@type": "http://schema.org/Product"}', "product"),
        ('[{"@type": "WebSite"}, {"@type": "VideoObject"}]', "video.other"),
        ('{"@type": "Recipe"}', None),
        ("{}", None),
    ],
)
def test_the_kind_of_page_is_told_by_json_ld_as_well(json_ld: str, kind: str | None) -> None:
    assert extract(f'<script type="application/ld+json">{json_ld}</script>', URL).type == kind
