"""Whatever meets foreign input takes a time in proportion to its length, and no more.

Each function is given an input of a kind that makes careless expressions slow, and one of ten
times its length. The second may cost 40 times as much: one that is quadratic costs 100 times.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from app.errors import FetchError, InvalidUrl
from app.extractor.bounds import Bounds
from app.extractor.dates import parse_date as page_date
from app.extractor.document import extract
from app.extractor.excerpt import excerpt_of
from app.extractor.json_ld import objects_in
from app.extractor.names import author_name
from app.extractor.page import Element
from app.extractor.text import clean
from app.fetcher.charset import charset_parameter, essence, is_text
from app.fetcher.cookies import parse_cookie, parse_date
from app.fetcher.decoding import decoder_for
from app.fetcher.framing import Chunked, framing_of
from app.fetcher.head import ResponseHead, read_head
from app.fetcher.prescan import declared_encoding
from app.fetcher.redirects import CookieJar, redirect_target
from app.fetcher.robots import parse_robots_txt
from app.models import Header
from app.retries import retry_after_seconds
from app.urls import canonical_url
from tests.fakes import a_page

LD = '<script type="application/ld+json">'

SHORT, FACTOR, MOST = 3000, 10, 40
# What is quicker than this is not measured exactly enough to be compared.
LEAST_SECONDS = 0.0005

PLAIN = "<p>hello world </p>\n" * 20_000
MOST_OF_PLAIN = 20
"""How many times as long as the plain page of 400,000 characters another of its length may take."""

Run = Callable[[str], object]
URL = httpx.URL("http://a.test/")


def head_of(name: str, value: str) -> ResponseHead:
    return ResponseHead("HTTP/1.1", 302, (Header(name, value),), b"")


def read_headers(text: str) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        for byte in b"HTTP/1.1 200 OK\r\n" + text.encode("latin-1"):
            reader.feed_data(bytes([byte]))
            await asyncio.sleep(0)
        reader.feed_eof()
        await read_head(reader)

    with suppress(ConnectionResetError):
        asyncio.run(read())


def take_chunks(text: str) -> None:
    chunked = Chunked()
    for byte in text.encode("latin-1"):
        chunked.take(bytes([byte]))


def cookie(text: str) -> None:
    parse_cookie(text, "a.test", "/")


def kind(content_type: str) -> None:
    is_text(b"", content_type)


def keep_cookies(text: str) -> None:
    jar = CookieJar()
    jar.keep(URL, [Header("set-cookie", each) for each in text.split("|")])
    jar.header_for(URL)


def ask_robots(text: str) -> None:
    parse_robots_txt(text, "page-metadata").can_fetch("http://a.test/" + "a" * 2000, "other")


def entities(items: str) -> None:
    """Read an author that is thousands of references to what has thousands of items."""
    described = f'{{"@id":"#a","x":1,"name":[{items}{{}}]}}'
    author = '{"@id":"#a"},' * (len(items) // 13)
    graph = f'[{{"@type":"Article","author":[{author}{{}}]}},{described}]'
    document(f'<script type="application/ld+json">{{"@graph":{graph}}}</script>')


def types(items: str) -> None:
    """Read thousands of entities, the first of thousands of types."""
    names = '"a",' * (len(items) // 4)
    graph = f'[{{"@type":[{names}"b"]}},{items}{{}}]'
    document(f'<script type="application/ld+json">{{"@graph":{graph}}}</script>')


def declared(text: str) -> str | None:
    return declared_encoding(text.encode())


def frame(name: str) -> Run:
    def run(value: str) -> None:
        with suppress(FetchError):
            framing_of(head_of(name, value))

    return run


def lead(location: str) -> None:
    with suppress(FetchError):
        redirect_target(URL, head_of("location", location))


def wait(value: str) -> float:
    return retry_after_seconds(a_page(503, headers=(Header("retry-after", value),)))


def canonical(url: str) -> None:
    with suppress(InvalidUrl):
        canonical_url(url)


def document(html: str) -> None:
    extract(html, "http://a.test/")


def addressed(path: str) -> None:
    extract("", f"http://a.test/{path}")


def link_header(value: str) -> None:
    extract("", "http://a.test/", [Header("link", value)])


def json_ld(text: str) -> None:
    objects_in([Element("script", {}, text)], Bounds())


SLOW_FOR_THE_CARELESS: dict[str, tuple[Run, str, str]] = {
    # name: (function, what comes first, what is repeated)
    "spaces after charset=": (charset_parameter, "text/html;charset=", " "),
    "spaces before =": (charset_parameter, "text/html;charset", " "),
    "parameters without value": (charset_parameter, "text/html", ";"),
    "parameters": (charset_parameter, "text/html", ";charse=x"),
    "a quote that is not closed": (charset_parameter, 'text/html;charset="', "x"),
    "quotes": (charset_parameter, "text/html;charset=", '"'),
    "backslashes": (charset_parameter, 'text/html;charset="', "\\"),
    "quoted parameters": (charset_parameter, "text/html", ';a="'),
    "spaces before a type": (essence, "", " "),
    "a long type": (essence, "", "a"),
    "slashes": (essence, "a", "/a"),
    "plus signs": (kind, "a/", "+xm"),
    "spaces after <meta charset=": (declared, "<meta charset=", " "),
    "quotes after <meta charset=": (declared, "<meta charset=", "\"' "),
    "spaces before = in <meta": (declared, "<meta charset", " "),
    "charsets in <meta": (declared, "<meta ", "charset= "),
    "metas": (declared, "", "<meta charset "),
    "words in <meta": (declared, "<meta ", "a charse"),
    "comments that are not closed": (declared, "", "<!--"),
    "comments that are nearly closed": (declared, "<!--", "--"),
    "spaces before <?xml": (declared, "", " "),
    "encodings in <?xml": (declared, "<?xml ", "encoding="),
    "encodings in <?xml, quoted": (declared, "<?xml ", "encoding=''"),
    "spaces in <?xml encoding": (declared, "<?xml encoding", " "),
    "a list of codings": (decoder_for, "", "gzip,"),
    "a list of lengths": (frame("content-length"), "5", ",5"),
    "a list of transfer codings": (frame("transfer-encoding"), "", "chunked,"),
    "a cookie of spaces": (cookie, "a=", " "),
    "a cookie of attributes": (cookie, "a=b", "; path=/"),
    "a Max-Age": (cookie, "a=b; max-age=", "9"),
    "a date of tokens": (parse_date, "", "1 "),
    "a date of digits": (parse_date, "", "1"),
    "a time without end": (parse_date, "", "1:1:1"),
    "cookies": (keep_cookies, "", "a=b; path=/; domain=a.test|"),
    "a location of dots": (lead, "/", "../"),
    "a location of @": (lead, "//", "@"),
    "a location of brackets": (lead, "//", "["),
    "a location of colons": (lead, "//a", ":"),
    "a location of percent signs": (lead, "/", "%"),
    "a location beyond ASCII": (lead, "//", "\xc3\xa9"),
    "a long Retry-After": (wait, "", "9"),
    "a Retry-After of spaces": (wait, "1 Jan", " "),
    "a Retry-After of commas": (wait, "Mon", ",1"),
    "a Retry-After of words": (wait, "", "1 Jan "),
    "headers that drip": (read_headers, "A: ", "\r"),
    "lines that drip": (read_headers, "", "A: b\r\n"),
    "folded lines that drip": (read_headers, "A: b", "\r\n "),
    "chunks that drip": (take_chunks, "", "a\r\n0123456789\r\n"),
    "robots.txt of agents": (ask_robots, "", "user-agent: a\n"),
    "robots.txt of spaces": (ask_robots, "user", " "),
    "robots.txt of rules": (ask_robots, "user-agent: *\n", "disallow: /*b\n"),
    "robots.txt of asterisks": (ask_robots, "user-agent: *\ndisallow: /", "*a"),
    "a page of <": (excerpt_of, "", "<"),
    "a page of tags": (excerpt_of, "", "<div>"),
    "a page of open quotes": (excerpt_of, "", '<p a="'),
    "a page of both quotes": (excerpt_of, "", "<p a='b\"c'"),
    "a page of attributes": (excerpt_of, "<p ", "a "),
    "a page of equals signs": (excerpt_of, "<p ", "="),
    "a page of spaces": (excerpt_of, "<p a", " "),
    "a page of comments": (excerpt_of, "", "<!--"),
    "a page of scripts": (excerpt_of, "<script>", "</scrip"),
    "a page of svg": (excerpt_of, "", "<svg>"),
    "a page of templates": (excerpt_of, "", "<template></templat>"),
    "a page of metas": (excerpt_of, "", "<meta "),
    "a page of signs": (excerpt_of, "<p>", "author "),
    "a page of authors in JSON-LD": (excerpt_of, LD, '"author":{"Person"'),
    "a page of names in JSON-LD": (excerpt_of, LD + '"author":{"Person"', '"name":"a b'),
    "a page of dates": (document, "", "<p class=date>"),
    "a page of classes": (excerpt_of, "<p ", "id='date class="),
    "a class of words": (excerpt_of, "<p data-date class=", "dat "),
    "a page of numbers": (document, "", "<h1>1 2 3 4 5 "),
    "a page of short texts": (document, "<h1>", ">1.2.2024"),
    "a path of digits": (addressed, "/", "2024"),
    "a path of days": (addressed, "", "/2024/1/1"),
    "a page of bylines": (document, "", "<p class=byline>"),
    "a page of microdata": (document, "", "<p itemprop=author itemscope>"),
    "a page of signs in tags": (excerpt_of, "", "<date"),
    "a page of signs in a tag": (excerpt_of, "<p title='", "date "),
    "a byline of breaks": (document, "<p class=byline>", "<br "),
    "JSON-LD of references": (entities, "", "{},"),
    "JSON-LD of types": (types, "", "{},"),
    "a title of ligatures": (document, "<title>", "\ufdfa"),
    "a page of references": (document, "<title>", "&amp;amp;"),
    "a title of separators": (document, "<title>", " - "),
    "a title of markup": (clean, "</b>", "<b "),
    "JSON-LD of commas": (json_ld, '{"a":1', ", "),
    "JSON-LD of comments": (json_ld, "", "/*"),
    "JSON-LD of quotes": (json_ld, '"', '\\"'),
    "JSON-LD of semicolons": (json_ld, "{}", "; "),
    "JSON-LD of braces": (json_ld, "", '{"a":'),
    "JSON-LD of digits": (json_ld, "", "9"),
    "a name": (author_name, "", "by "),
    "a name behind others": (author_name, "", "view all posts "),
    "a name of parentheses": (author_name, "a", " (a"),
    "a name of addresses": (author_name, "", "a@"),
    "a date of a page": (page_date, "", "1 may "),
    "a Link header": (link_header, "", "<a>;rel=b,"),
    "a Link header of spaces": (link_header, "<a>;rel", " "),
    "a URL": (canonical, "http://", "a."),
    "a URL beyond ASCII": (canonical, "http://", "\xe9"),
    "a URL of dots": (canonical, "http://a/", "../"),
    "a URL of digits": (canonical, "http://a:", "1"),
}


def seconds(run: Run, text: str) -> float:
    """Return the least of three times, since the garbage collector may join in."""
    return min(seconds_once(run, text) for _ in range(3))


def seconds_once(run: Run, text: str) -> float:
    # The measurement of coverage would slow down what is written in Python, and nothing else.
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        started = time.thread_time()
        run(text)
        return time.thread_time() - started
    finally:
        sys.settrace(tracer)


@pytest.mark.parametrize(
    ("run", "first", "repeated"), SLOW_FOR_THE_CARELESS.values(), ids=SLOW_FOR_THE_CARELESS
)
def test_ten_times_the_input_takes_about_ten_times_as_long(
    run: Run, first: str, repeated: str
) -> None:
    short = first + repeated * (SHORT // len(repeated))
    long = first + repeated * (FACTOR * SHORT // len(repeated))
    assert seconds(run, long) < MOST * max(seconds(run, short), LEAST_SECONDS)


@pytest.mark.parametrize(
    "piece",
    [
        "<date",
        f"<p title='{'date ' * 3000}'>",
        "<" + "x" * 16_000 + " date" * 50,
        f'{"<meta " * 62}a="{"b" * 1000}" ',
        f"<p class=byline>{'<br ' * 400}",
        "<h1>",
        "<time>",
    ],
)
def test_no_page_of_a_kind_takes_much_longer_than_others(piece: str) -> None:
    # Pages of this length are read in the event loop. Some of these took 500 ms.
    html = piece * (len(PLAIN) // len(piece))
    assert seconds(document, html) < MOST_OF_PLAIN * seconds(document, PLAIN)


@pytest.mark.parametrize("items", ["{}", '{"@type":"Article"}', '{"publisher":{}}'])
def test_many_entities_are_not_each_looked_at(items: str) -> None:
    graph = ",".join([items] * (130_000 // (len(items) + 1)))
    html = f'<script type="application/ld+json">{{"@graph":[{graph}]}}</script>'
    # Most of it is to parse the JSON, and to make it storable. It took 0.75 s.
    assert seconds(document, html) < 2 * MOST_OF_PLAIN * seconds(document, PLAIN)


def test_what_many_refer_to_is_not_read_for_each() -> None:
    # It took 8 s.
    assert seconds_once(entities, "{}," * 8000) < 2 * MOST_OF_PLAIN * seconds(document, PLAIN)


@pytest.mark.parametrize("piece", ["<p a ", '<p a="" b', "<meta a ", "<script a", "</p <p a="])
def test_tags_without_an_end_are_not_each_searched_to_the_end_of_the_page(piece: str) -> None:
    # To search is quick, so it takes this many tags to show.
    text = piece * (20_000 // len(piece))
    assert seconds_once(excerpt_of, text * FACTOR) < MOST * max(seconds(excerpt_of, text), 0.0002)
