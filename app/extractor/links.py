"""What the head of a page links to: its feeds, its oEmbed descriptions, its other languages."""

from collections.abc import Iterator

from app.extractor.bounds import MAX_LINKS, MAX_NAME, MAX_TITLE
from app.extractor.page import Element, Page
from app.extractor.text import clean
from app.models import AlternatePage, LinkedResource

_FEED_TYPES = frozenset(
    {"application/rss+xml", "application/atom+xml", "application/rdf+xml", "application/feed+json"}
)
_OEMBED_TYPES = frozenset({"application/json+oembed", "text/xml+oembed", "application/xml+oembed"})


def feeds_of(page: Page) -> tuple[LinkedResource, ...]:
    """Return the feeds in order."""
    return page.bounds.items(_resources(page, _FEED_TYPES), MAX_LINKS)


def oembed_of(page: Page) -> tuple[LinkedResource, ...]:
    """Return the oEmbed descriptions in order."""
    return page.bounds.items(_resources(page, _OEMBED_TYPES), MAX_LINKS)


def alternates_of(page: Page) -> tuple[AlternatePage, ...]:
    """Return the other languages of the page in order, its own among them if it is listed."""
    alternates = (
        AlternatePage(url, link.attributes["hreflang"].strip()[:MAX_NAME])
        for link in page.links("alternate")
        if link.attributes.get("hreflang", "").strip() and (url := _target(page, link))
        if _media_type(link) not in _FEED_TYPES | _OEMBED_TYPES
    )
    return page.bounds.items(alternates, MAX_LINKS)


def _resources(page: Page, types: frozenset[str]) -> Iterator[LinkedResource]:
    for link in page.all("link"):
        is_listed = {"alternate", "alternative"} & {*link.words("rel")}
        if is_listed and _media_type(link) in types and (url := _target(page, link)):
            title = page.bounds.text(clean(link.attributes.get("title", "")), MAX_TITLE)
            yield LinkedResource(url, _media_type(link), title or None)


def _media_type(link: Element) -> str:
    return link.attributes.get("type", "").partition(";")[0].strip().lower()


def _target(page: Page, link: Element) -> str | None:
    href = link.attributes.get("href", "")
    return page.absolute(href) if href.strip() else None
