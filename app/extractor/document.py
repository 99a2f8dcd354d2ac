"""The whole of what a page says about itself."""

from collections.abc import Iterable

from app.extractor.author import author_of
from app.extractor.canonical import canonical_url_of
from app.extractor.icons import best_of, icons_of
from app.extractor.image import image_of
from app.extractor.kind import kind_of
from app.extractor.language import language_of
from app.extractor.links import alternates_of, feeds_of, oembed_of
from app.extractor.moments import modified_at, published_at
from app.extractor.page import Page
from app.extractor.robots import robots_of
from app.extractor.site_name import site_name_of
from app.extractor.social import open_graph_of, twitter_of
from app.extractor.theme_color import theme_color_of
from app.extractor.title import description_of, title_of
from app.models import Document, Header

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
"""The media types of pages that are read."""

EXTRACTOR_VERSION = 2
"""To be raised with every change of the rules that gives another document for the same page."""


def extract(html: str, final_url: str, headers: Iterable[Header] = ()) -> Document:
    """Return what a page says about itself. Any text is taken, whatever is wrong with it.

    `final_url` is where the page was found: its relative URLs start from there.
    """
    page = Page(html, final_url, headers)
    icons, site_name = icons_of(page), site_name_of(page)
    return Document(
        title=title_of(page),
        description=description_of(page),
        site_name=site_name,
        type=kind_of(page),
        language=language_of(page),
        canonical_url=canonical_url_of(page),
        image=image_of(page),
        icon=best_of(icons),
        icons=icons,
        theme_color=theme_color_of(page),
        author=author_of(page, site_name),
        published_at=published_at(page),
        modified_at=modified_at(page),
        feeds=feeds_of(page),
        oembed=oembed_of(page),
        alternates=alternates_of(page),
        robots=robots_of(page),
        open_graph=open_graph_of(page),
        twitter=twitter_of(page),
        json_ld=page.json_ld,
        extractor_version=EXTRACTOR_VERSION,
        truncated=page.bounds.exceeded,
    )
