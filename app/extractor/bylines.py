"""Names of authors in the text of a page."""

import re
from collections.abc import Iterator
from itertools import islice

from app.extractor.names import byline_name
from app.extractor.page import Element, Page
from app.extractor.text import clean

_NEAR = 5
"""How many notable elements after an author's a name may stand that belongs to it."""

_MAX_CHARACTERS = 80
"""What is longer than this is no byline, but a paragraph or a list of pages."""

_BEGINNING = 4 * _MAX_CHARACTERS
"""How much of an element is looked at: something may stand around the name."""

# In a class, `author-bio` and `authors-list` are about authors, but hold more than a name, and a
# `comment-author` has not written the page.
_AUTHOR = re.compile(r"byline|author(?!i[sz])")
_NOT_BEFORE = (
    "comment", "related", "teaser", "snippet", "recommend", "license", "photo", "image", "prep",
    "form-",
)  # fmt: skip
_NOT_BEHIND = (
    "bio", "image", "avatar", "photo", "img", "link-wrapper", "box", "date", "icon", "count",
    "social", "desc", "info", "meta", "related", "list", "comment", "role", "position", "label",
    "heading", "twitter", "note", "article", "block",
)  # fmt: skip

_AUTHORS_ADDRESS = re.compile(r"/authors?/[^/?#]", re.IGNORECASE)

_DATE = re.compile(r"[\s,|(]\d")
_IN_A_DATE = frozenset(
    {
        "am", "um", "on", "at", "le", "el", "em", "den", "der", "last", "updated", "date",
        "posted", "published",
        "stand", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
        "sunday", "mon", "tue", "wed", "thu", "fri", "sat", "sun", "montag", "dienstag",
        "mittwoch", "donnerstag", "freitag", "samstag", "sonntag", "lundi", "mardi",
        "mercredi", "jeudi", "vendredi", "samedi", "dimanche", "january", "february",
        "march", "april", "may", "june", "july", "august", "september", "october",
        "november", "december", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep",
        "sept", "oct", "nov", "dec", "januar", "februar", "märz", "mai", "juni", "juli",
        "oktober", "dezember",
    }
)  # fmt: skip
"""What may stand between a name and a number, as in "Jane Doe on March 3"."""

_AND = re.compile(r"\s*+(?:,|&|and\b|und\b|et\b|y\b|e\b|en\b|og\b|och\b)\s*+", re.IGNORECASE)

_OF_A_PERSON = frozenset({"name", "url", "image", "description", "jobtitle", "sameas", "email"})
_BY_OTHERS = frozenset({"review", "reviews", "comment"})


def in_microdata(page: Page) -> Iterator[str]:
    """Return the values of the property `author`, or of `name` within it."""
    for author in _first_authors(page):
        name = _name_within(page, author) if "itemscope" in author.attributes else None
        value = author.attributes.get("content") or author.text
        yield name.value if name else value


def linked(page: Page) -> Iterator[str]:
    """Return the first name that a link to an author has. Others may be those of other pages."""
    links = (element for element in page.elements if "author" in element.words("rel"))
    return islice(filter(None, map(_name_in, links)), 1)


def by_address(page: Page) -> Iterator[str]:
    """Return the name that links to addresses such as `/author/jane` have, if they agree on one."""
    links = (link for link in page.all("a") if _leads_to_an_author(link))
    names = {name.lower(): name for name in map(_name_in, links) if name}
    return iter(names.values() if len(names) == 1 else ())


def by_class(page: Page) -> Iterator[str]:
    """Return the names in the first element whose class says that it is a byline."""
    names = (_names_in(page, element) for element in page.elements if _is_byline(element))
    return iter(next(filter(None, names), ()))


def _first_authors(page: Page) -> Iterator[Element]:
    """Return the authors up to the next property of something else.

    Further authors are those of comments, reviews or other pages.
    """
    found = False
    for element in page.elements:
        properties = set(element.words("itemprop"))
        if "author" in properties:
            found = True
            yield element
        elif properties & _BY_OTHERS or (found and properties - _OF_A_PERSON):
            return


def _name_within(page: Page, author: Element) -> Element | None:
    near = islice(page.following(author), _NEAR)
    return next((it for it in near if "name" in it.words("itemprop")), None)


def _names_in(page: Page, byline: Element) -> list[str]:
    """Return the names in a byline: those of its parts that it begins with, or all that it has.

    Of `By <a class="author">Jane Doe</a>, our correspondent`, the name is what the link has.
    """
    if not (rest := _name_in(byline)):
        return []
    names = []
    for part in islice(page.following(byline), _NEAR):
        name = _name_in(part) if part.name == "a" or _is_byline(part) else None
        if name and rest.startswith(name):
            names.append(name)
            separator = _AND.match(rest, len(name))
            rest = rest[separator.end() :] if separator else ""
    return names or [rest]


def _name_in(element: Element) -> str | None:
    """Return the name in an element, without the date behind it."""
    text, *date = _DATE.split(clean(element.text), maxsplit=1)
    text = text[:_BEGINNING]
    name = byline_name(_without_beginning_of_date(text) if date else text)
    if not name or name[0].isdigit():
        return None
    return name if len(name.strip(".")) > 1 and len(name) <= _MAX_CHARACTERS else None


def _without_beginning_of_date(text: str) -> str:
    words = text.split()
    while words and words[-1].strip(".,:|-").lower() in _IN_A_DATE:
        words.pop()
    return " ".join(words)


def _leads_to_an_author(link: Element) -> bool:
    return bool(_AUTHORS_ADDRESS.search(link.attributes.get("href", "")))


def _is_byline(element: Element) -> bool:
    return element.name != "img" and any(map(_is_of_an_author, element.words("class")))


def _is_of_an_author(name: str) -> bool:
    """Return whether elements with a class of this name hold the name of an author."""
    if not (author := _AUTHOR.search(name)):
        return False
    before, behind = name[: author.start()], name[author.end() :]
    return not any(it in before for it in _NOT_BEFORE) and not any(
        it in behind for it in _NOT_BEHIND
    )
