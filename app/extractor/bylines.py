"""Names of authors in the text of a page."""

import re
from collections.abc import Iterator
from itertools import islice

from app.extractor.page import Element, Page

_NEAR = 5
"""How many notable elements after an author's a name may stand that belongs to it."""

_DATE = re.compile(r"[\s,|]\d")

_CLASSES = ("author", "byline")

# `author-bio` and `authors-list` are about authors, but hold more than a name.
_NOT_A_NAME = (
    "bio", "image", "avatar", "photo", "img", "link-wrapper", "box", "date", "icon", "count",
    "social", "desc", "info", "meta", "related", "list", "comment",
)  # fmt: skip


def in_microdata(page: Page) -> Iterator[str]:
    """Return the values of the property `author`, or of `name` within it."""
    for author in page.properties("author"):
        name = _name_within(page, author) if "itemscope" in author.attributes else None
        value = author.attributes.get("content") or author.text
        yield name.value if name else value


def linked(page: Page) -> Iterator[str]:
    """Return the texts of links to an author."""
    return (it.text for it in page.elements if "author" in it.words("rel") and it.text)


def by_class(page: Page) -> Iterator[str]:
    """Return the text of the first element whose class says that it is a byline.

    A date often follows the name, so a byline ends before the first number.
    """
    texts = (_DATE.split(it.text.strip())[0] for it in page.elements if _is_byline(it))
    return islice(filter(None, texts), 1)


def _name_within(page: Page, author: Element) -> Element | None:
    near = islice(page.following(author), _NEAR)
    return next((it for it in near if "name" in it.words("itemprop")), None)


def _is_byline(element: Element) -> bool:
    if element.name == "img":
        return False
    classes = [it for it in element.words("class") if any(word in it for word in _CLASSES)]
    return any(not any(word in it for word in _NOT_A_NAME) for it in classes)
