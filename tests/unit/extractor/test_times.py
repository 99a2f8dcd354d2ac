"""Dates that a page tells to people alone: in its text, and in its URL."""

import pytest

from app.extractor.document import extract

URL = "http://a.test/a-story"


def published(html: str, url: str = URL) -> str | None:
    moment = extract(html, url).published_at
    return f"{moment:%Y-%m-%d}" if moment else None


@pytest.mark.parametrize(
    "html",
    [
        "<span class=post-date>March 3, 2014</span>",
        "<div class='entry-meta'>By Jane on <b>3 March 2014</b> | 2 answers</div>",
        "<p id=metadata>am Montag, 3. März 2014<p>",
        '<abbr class="date published" title="2014-03-03T19:05:00Z">7:05 pm</abbr>',
        '<span class="metadata hidden" content="2014-03-03"></span>',
        "<i class=date>today</i><i class=date>3.3.2014</i>",
        "<i class=comment-date>4.4.2014</i><i class=date>3.3.2014</i>",
    ],
)
def test_a_class_may_say_that_there_is_a_date(html: str) -> None:
    assert published(html) == "2014-03-03"


@pytest.mark.parametrize(
    "html",
    [
        "<i class=comment-date>3.3.2014</i>",
        "<i class=teaser-date>3.3.2014</i>",
        "<i class=last-updated>3.3.2014</i>",
        "<a href=/date/>3.3.2014</a>",
        "<p>Since 3.3.2014</p>",
    ],
)
def test_a_date_of_something_else_is_not_that_of_the_page(html: str) -> None:
    assert published(html) is None


@pytest.mark.parametrize(
    ("path", "day"),
    [
        ("/2014/03/03/a-story", "2014-03-03"),
        ("/2014/3/3/", "2014-03-03"),
        ("/news/2014-03-03-a-story.html", "2014-03-03"),
        ("/news/20140303_1.html", "2014-03-03"),
        ("/web/20150101000000/http://b.test/2014/03/03", "2014-03-03"),
        ("/news/20141399", None),
        ("/2014/03/", None),
        ("/2014/03/3-questions", None),
        ("/news/120140303", None),
    ],
)
def test_the_path_of_the_url_may_name_the_day(path: str, day: str | None) -> None:
    assert published("", f"http://a.test{path}") == day


@pytest.mark.parametrize(
    "html",
    [
        "<p>3 March 2014</p><h1>A story</h1>",
        "<h1>A story</h1><p>03.03.2014. 10:30</p>",
        "<h1>A story</h1><p>3 March 2014. 12 comments</p>",
        "<h1>A story</h1><p>Posted:\n\t March 3rd, 2014 </p>",
        "<h1>A story</h1><p>In 2010 &amp; 2011</p><li>Berlin, 03.03.2014, 12:30 Uhr</li>",
    ],
)
def test_a_date_may_stand_near_the_heading(html: str) -> None:
    assert published(html) == "2014-03-03"


@pytest.mark.parametrize(
    "html",
    [
        "<h1>A story</h1><p>March 2014</p>",
        "<h1>A thing</h1><p>Model 1234-5</p>",
        "<h1>A thing</h1><p>Order 1012-12-12</p>",
        "<h1>A story</h1><p>Last updated: 3 March 2014</p>",
        f"<h1>A story</h1>{'<p>Text</p>' * 500}<p>3 March 2014</p>",
        f"<h1>A story</h1><p>3 March 2014 {'was a day like others ' * 3}</p>",
        "<h1>A story</h1><time class=updated>3 March 2014</time>",
    ],
)
def test_not_every_date_is_near_enough_to_the_heading(html: str) -> None:
    assert published(html) is None


def test_what_a_page_tells_to_programs_comes_first() -> None:
    html = (
        '<meta property="article:published_time" content="2014-03-03">'
        "<h1>A story</h1><i class=date>4.4.2014</i>"
    )
    assert published(html, "http://a.test/2014/05/05/") == "2014-03-03"


def test_a_time_comes_before_the_text_around_it() -> None:
    html = "<i class=meta>4.4.2014 <time datetime=2014-03-03>4.4.2014</time></i>"
    assert published(html) == "2014-03-03"


def test_the_dates_on_a_home_page_are_those_of_other_pages() -> None:
    html = "<h1>News</h1><i class=date>3.3.2014</i><p>3.3.2014</p>"
    assert published(html) == "2014-03-03"
    assert published(html, "http://a.test/") is None
