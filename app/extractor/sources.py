"""Where each field is looked for, and in which order: the first place that has it counts.

A page says the same thing in several places. What it says to other programs comes first, in the
vocabularies that most pages use: Open Graph, Twitter Cards and JSON-LD. Then come its own words,
the vocabularies of a few (Dublin Core, Highwire Press, Parse.ly, Sailthru), and last what can only
be guessed from its text.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from app.extractor import bylines, link_header, times
from app.extractor.json_ld import PAGE, SUBJECT, rank, texts, types_of
from app.extractor.page import Page
from app.extractor.text import letters_of

Source = Callable[[Page], Iterator[str]]


def meta(*names: str) -> Source:
    """Take the contents of the meta elements with the first of these names that is there.

    It may stand in `name` or in `property`: many pages mistake one for the other.
    """

    def source(page: Page) -> Iterator[str]:
        return iter(next((page.metas[name] for name in names if name in page.metas), ()))

    return source


def json_ld(*names: str, least: int = SUBJECT) -> Source:
    """Take the first of these properties that what the JSON-LD is about has.

    With `least=PAGE`, the page as such counts as well as what it is about.
    """

    def source(page: Page) -> Iterator[str]:
        near = (entity for entity in page.entities if rank(entity) <= least)
        found = (entity[name] for entity in near for name in names if entity.get(name))
        return texts(next(found, None), "name")

    return source


def json_ld_of(kind: str, name: str) -> Source:
    """Take a property of the JSON-LD entities of one type."""

    def source(page: Page) -> Iterator[str]:
        for entity in page.entities:
            if kind in types_of(entity):
                yield from texts(entity.get(name), "name")

    return source


def json_ld_within(outer: str, name: str) -> Source:
    """Take the property `name` of an entity that is the property `outer` of another."""

    def source(page: Page) -> Iterator[str]:
        for entity in page.entities:
            if isinstance(inner := entity.get(outer), dict):
                yield from texts(inner.get(name))

    return source


def labelled(*labels: str) -> Source:
    """Take what a Twitter Card shows beside one of these labels."""

    def source(page: Page) -> Iterator[str]:
        for number in ("1", "2"):
            if page.metas.get(f"twitter:label{number}", [""])[0].strip().lower() in labels:
                yield from page.metas.get(f"twitter:data{number}", ())

    return source


def itemprop(name: str) -> Source:
    """Take the values of a microdata property."""
    return lambda page: (element.value for element in page.properties(name))


def link(rel: str) -> Source:
    """Take the targets of links in the head."""
    return lambda page: (element.attributes.get("href", "") for element in page.links(rel))


def text_of(name: str) -> Source:
    """Take the text of elements."""
    return lambda page: (element.text for element in page.all(name))


def at_start_of_title(source: Source) -> Source:
    """Take the first text of a source if the `<title>` begins with it.

    Wikipedia has a short description for its headline, other sites have their own name for a name.
    """

    def at_start(page: Page) -> Iterator[str]:
        title = next(map(letters_of, text_of("title")(page)), "")
        return (it for it in islice(source(page), 1) if title.startswith(letters_of(it)))

    return at_start


def attribute_of(name: str, attribute: str) -> Source:
    """Take an attribute of elements."""
    return lambda page: (element.attributes.get(attribute, "") for element in page.all(name))


def header(name: str) -> Source:
    """Take the values of response headers."""
    return lambda page: iter(page.headers.get(name, ()))


TITLE: tuple[Source, ...] = (
    meta("og:title"),
    meta("twitter:title"),
    at_start_of_title(json_ld("headline")),
    at_start_of_title(json_ld("name")),
    json_ld("headline", "name"),
    text_of("title"),
    meta("citation_title", "dc.title", "dcterms.title", "parsely-title", "sailthru.title"),
    meta("title"),
    itemprop("headline"),
    text_of("h1"),
    json_ld("name", least=PAGE),
)

DESCRIPTION: tuple[Source, ...] = (
    meta("og:description"),
    meta("twitter:description"),
    meta("description"),
    json_ld("description"),
    itemprop("description"),
    meta("dc.description", "dcterms.description", "dcterms.abstract", "sailthru.description"),
    meta("citation_abstract"),
    json_ld("description", "abstract", least=PAGE),
)

SITE_NAME: tuple[Source, ...] = (
    meta("og:site_name"),
    json_ld_of("WebSite", "name"),
    json_ld_within("isPartOf", "name"),
    meta("application-name", "apple-mobile-web-app-title"),
    meta("citation_journal_title"),
)

PUBLISHER: tuple[Source, ...] = (
    json_ld_within("publisher", "name"),
    meta("dc.publisher", "dcterms.publisher"),
    json_ld_of("Organization", "name"),
    json_ld_of("NewsMediaOrganization", "name"),
    meta("al:ios:app_name", "al:android:app_name", "twitter:app:name:iphone"),
)
"""What counts as the name of the site if nothing else names it."""

LANGUAGE: tuple[Source, ...] = (
    attribute_of("html", "lang"),
    attribute_of("html", "xml:lang"),
    meta("og:locale"),
    meta("content-language", "language", "dc.language", "dcterms.language", "citation_language"),
    json_ld("inLanguage", least=PAGE),
    itemprop("inlanguage"),
    header("content-language"),
)

CANONICAL_URL: tuple[Source, ...] = (
    link("canonical"),
    lambda page: link_header.targets(page, "canonical"),
    meta("og:url"),
    json_ld("url", least=PAGE),
    meta("twitter:url", "parsely-link", "dc.identifier"),
)

PUBLISHED_AT: tuple[Source, ...] = (
    meta("article:published_time", "og:article:published_time", "book:release_date"),
    json_ld("datePublished", "uploadDate", "datePosted"),
    meta("og:published_time", "article:published", "video:release_date", "og:release_date"),
    meta("parsely-pub-date", "sailthru.date", "publish-date", "publish_date", "pubdate"),
    meta("citation_publication_date", "citation_online_date", "citation_date"),
    meta("dc.date.issued", "dcterms.issued", "dcterms.created", "dc.date.created"),
    meta(
        "publishdate",
        "publication_date",
        "article.published",
        "published_at",
        "rnews:datepublished",
    ),
    itemprop("datepublished"),
    itemprop("uploaddate"),
    itemprop("datecreated"),
    json_ld("datePublished", least=PAGE),
    times.of_publication,
    times.in_path,
    times.by_class,
    times.near_headings,
    meta("dc.date", "dcterms.date", "date", "article_date_original", "originalpublicationdate"),
    json_ld("dateCreated", least=PAGE),
)

MODIFIED_AT: tuple[Source, ...] = (
    meta("article:modified_time", "og:updated_time", "og:article:modified_time"),
    json_ld("dateModified"),
    meta("og:modified_time", "article:modified", "lastmod", "last-modified", "revised"),
    meta("dcterms.modified", "dc.date.modified", "parsely-updated-date", "modified_at"),
    itemprop("datemodified"),
    json_ld("dateModified", least=PAGE),
    times.of_changes,
)

AUTHOR: tuple[Source, ...] = (
    json_ld("author", "creator"),
    meta("article:author", "og:article:author", "book:author"),
    meta("parsely-author", "sailthru.author", "byl", "dc.creator", "dcterms.creator"),
    meta("citation_author", "citation_authors", "article:author_name"),
    meta("shareaholic:article_author_name", "cxenseparse:author", "cse_author", "og:author"),
    labelled(
        "written by",
        "verfasst von",
        "geschrieben von",
        "écrit par",
        "rédigé par",
        "escrito por",
        "scritto da",
        "geschreven door",
        "skriven av",
        "skrevet av",
        "napisane przez",
    ),
    json_ld("author", least=PAGE),
    bylines.in_microdata,
    bylines.linked,
    meta("author"),
    bylines.by_address,
    bylines.by_class,
)

THEME_COLOR: tuple[Source, ...] = (
    meta("theme-color"),
    meta("msapplication-tilecolor", "msapplication-navbutton-color"),
)
