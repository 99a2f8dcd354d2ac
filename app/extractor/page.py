"""A page as the rules see it: its notable elements, parsed, and a few facts about it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from selectolax.lexbor import LexborHTMLParser, LexborNode

from app.extractor.bounds import Bounds
from app.extractor.excerpt import excerpt_of
from app.extractor.json_ld import Entity, entities_in, objects_in
from app.models import Header
from app.urls import absolute_url

# Names that mean the same with a colon or a dot, such as `DC:title` and `DC.title`.
_DOTTED_PREFIXES = ("dc:", "dcterms:", "sailthru:")

_WITH_TEXT = frozenset({"title", "script", "time", "data", "h1", "a", "span"})
_READ = ",".join(sorted({"html", "base", "meta", "link", "img", *_WITH_TEXT}))


@dataclass(frozen=True, slots=True)
class Element:
    """An element with its attributes, whose names are in lower case, and its text."""

    name: str
    attributes: Mapping[str, str]
    text: str

    @property
    def value(self) -> str:
        """The value, if this is a microdata property (HTML standard, section 5.2.4)."""
        named = (self.attributes.get(name) for name in ("content", "datetime", "href", "src"))
        return next(filter(None, named), self.text)

    def words(self, attribute: str) -> list[str]:
        """Return the words of an attribute such as `rel`, in lower case."""
        value = self.attributes.get(attribute)
        return value.lower().split() if value else []


class Page:
    """What the rules read. `bounds` takes note of what they leave out."""

    def __init__(self, html: str, url: str, headers: Iterable[Header]) -> None:
        excerpt = excerpt_of(html)
        self.bounds = Bounds()
        self.bounds.exceeded = excerpt.truncated
        self.url = url
        self.elements = tuple(_elements(excerpt.html))
        self.headers = _by_name((header.name, header.value) for header in headers)
        self.base_url = self._base_url()

    @cached_property
    def metas(self) -> Mapping[str, list[str]]:
        """The contents of the meta elements, by all names that each goes by, in lower case."""
        return _by_name(
            (name, element.attributes["content"])
            for element in self.elements
            if element.name == "meta" and "content" in element.attributes
            for name in _meta_names(element)
        )

    @cached_property
    def json_ld(self) -> tuple[dict[str, Any], ...]:
        """The JSON-LD objects of the page."""
        return objects_in(self.all("script"), self.bounds)

    @cached_property
    def entities(self) -> list[Entity]:
        """What the JSON-LD describes, the subject of the page first."""
        return entities_in(self.json_ld)

    def all(self, name: str) -> Iterator[Element]:
        """Return the elements called `name`, in order."""
        return (element for element in self.elements if element.name == name)

    def links(self, rel: str) -> Iterator[Element]:
        """Return the links of a kind, in order."""
        return (link for link in self.all("link") if rel in link.words("rel"))

    def properties(self, name: str) -> Iterator[Element]:
        """Return the elements with the microdata property `name`, in order."""
        return (element for element in self.elements if name in element.words("itemprop"))

    def following(self, element: Element) -> Iterator[Element]:
        """Return the elements after `element`."""
        elements = iter(self.elements)
        for other in elements:
            if other is element:
                break
        return elements

    def absolute(self, url: str) -> str | None:
        """Return a URL of the page in its canonical, absolute form, if it leads to a page."""
        return absolute_url(self.base_url, url)

    def _base_url(self) -> str:
        bases = (element.attributes.get("href") for element in self.all("base"))
        base = next((base for base in bases if base), None)
        return (base and absolute_url(self.url, base)) or self.url


def _elements(html: str) -> Iterator[Element]:
    for node in LexborHTMLParser(html).css(_READ):
        name = node.tag or ""
        yield Element(name, _attributes(node), node.text() if name in _WITH_TEXT else "")


def _attributes(node: LexborNode) -> dict[str, str]:
    return {name: value or "" for name, value in node.attributes.items()}


def _meta_names(meta: Element) -> set[str]:
    names = (name for key in ("property", "name", "http-equiv") for name in meta.words(key))
    return {
        name.replace(":", ".", 1) if name.startswith(_DOTTED_PREFIXES) else name for name in names
    }


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values
