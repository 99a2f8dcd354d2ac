"""JSON-LD: what parses of it, and which of the things it describes the page is about."""

import html
import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from app.extractor.bounds import (
    MAX_JSON_LD_CHARACTERS,
    MAX_JSON_LD_DEPTH,
    MAX_JSON_LD_OBJECTS,
    MAX_NAME,
    MAX_TEXT,
    Bounds,
)

Entity = dict[str, Any]

_MAX_ENTITIES = 200
_MAX_TYPES = 20
_MAX_ITEMS = 100
"""How many entities are looked at, how many types of each, and how many values of a property.

An entity may be referred to thousands of times, and have thousands of values itself: to look at
all of them takes a time in proportion to the square of the length.
"""

_MAX_INTEGER = 2**63 - 1
"""The largest integer that the database takes."""

# Strings are matched so that nothing inside them is taken for a comment or a comma too many.
_FLAWS = re.compile(
    r'("(?:[^"\\]|\\.)*+(?:"|\Z))'
    r"|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)"
    r"|<!--|-->|<!\[CDATA\[|\]\]>"
    r"|,\s*+(?=[,}\]]|\Z)"
    r"|;(?=\s*+\Z)",
    re.DOTALL,
)
_BETWEEN_OBJECTS = re.compile(r"[\s,;]*+")

_WORKS = re.compile(r"Article|Posting|Report|BlogPost|Review|Recipe|HowTo|Question|Dataset|Thesis")
_THINGS = frozenset(
    {
        "Product", "ProductGroup", "VideoObject", "Movie", "TVEpisode", "TVSeries", "Event", "Book",
        "Course", "SoftwareApplication", "WebApplication", "MobileApplication", "VideoGame", "Game",
        "MusicRecording", "MusicAlbum", "PodcastEpisode", "JobPosting", "AudioObject", "Episode",
        "CreativeWork", "APIReference", "SoftwareSourceCode", "Legislation",
    }
)  # fmt: skip
_PAGES = re.compile(r"Page$|^WebPage")

SUBJECT, PAGE, OTHER = range(3)
"""How near an entity is to what the page is about."""


class _Script(Protocol):
    @property
    def text(self) -> str: ...


def objects_in(scripts: Iterable[_Script], bounds: Bounds) -> tuple[Entity, ...]:
    """Return the objects in JSON-LD scripts, as far as they parse, and in a form to be stored."""
    left = MAX_JSON_LD_CHARACTERS
    texts = []
    for script in scripts:
        left -= len(script.text)
        if left < 0:
            bounds.exceeded = True
            break
        texts.append(script.text)
    values = (value for text in texts for value in _values(text))
    objects = (_storable(value, bounds, 0) for value in values if isinstance(value, dict))
    return bounds.items(objects, MAX_JSON_LD_OBJECTS)


def _values(text: str) -> Iterator[Any]:
    """Return the values in a script, those of arrays one by one."""
    for value in _parsed(text):
        yield from value if isinstance(value, list) else [value]


def _parsed(text: str) -> list[Any]:
    """Return the values in a script, mended if it does not parse as it is."""
    best: list[Any] = []
    for mend in (str.strip, _tidied, lambda flawed: _tidied(html.unescape(flawed))):
        values, is_whole = _decoded(mend(text))
        best = max(values, best, key=len)
        if is_whole:
            break
    return best


def _tidied(text: str) -> str:
    # A function takes a third of the time that a template would.
    return _FLAWS.sub(lambda flaw: flaw[1] or "", text).strip().removeprefix("\ufeff")


def _decoded(text: str) -> tuple[list[Any], bool]:
    """Return the JSON values that stand one after another, and whether that is all there is."""
    # Not strict: control characters are taken inside strings.
    decoder = json.JSONDecoder(strict=False, parse_constant=lambda _: None)
    values: list[Any] = []
    at = 0
    while at < len(text) and len(values) < MAX_JSON_LD_OBJECTS:
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return values, False
        values.append(value)
        if separator := _BETWEEN_OBJECTS.match(text, at):
            at = separator.end()
    return values, True


def _storable(value: Any, bounds: Bounds, depth: int) -> Any:
    """Return a JSON value in a form that the database takes, and no larger than is kept."""
    if not isinstance(value, (list, dict)):
        return _storable_scalar(value, bounds)
    if depth == MAX_JSON_LD_DEPTH:
        bounds.exceeded = True
        return None
    if isinstance(value, list):
        return [_storable(item, bounds, depth + 1) for item in value]
    items = ((_key(name), item) for name, item in value.items())
    return {name: _storable(item, bounds, depth + 1) for name, item in items if name}


def _storable_scalar(value: Any, bounds: Bounds) -> Any:
    if isinstance(value, str):
        return bounds.text(without_surrogates(value), MAX_TEXT)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, int) and abs(value) > _MAX_INTEGER else value


def _key(name: str) -> str:
    """Return a name that the database takes: one with `$` in front would be an operator."""
    return without_surrogates(name).replace("\0", "").lstrip("$")[:MAX_NAME]


def without_surrogates(text: str) -> str:
    """Return text that can be encoded: half of a surrogate pair becomes `?`."""
    return text.encode("utf-8", "replace").decode()


def entities_in(objects: Iterable[Entity]) -> list[Entity]:
    """Return what the objects describe, with references resolved, the page's subject first."""
    found = list(islice(_nested(objects), _MAX_ENTITIES))
    by_id = {entity["@id"]: entity for entity in found if _is_described(entity)}
    resolved = [_resolved(entity, by_id) for entity in found]
    return sorted(resolved, key=rank)


def _is_described(entity: Entity) -> bool:
    return isinstance(entity.get("@id"), str) and len(entity) > 1


def _nested(objects: Iterable[Entity]) -> Iterator[Entity]:
    """Return the objects, those in their `@graph` and those that they say they are about."""
    for entity in objects:
        yield entity
        for name in ("@graph", "mainEntity", "mainEntityOfPage"):
            for inner in as_list(entity.get(name)):
                if isinstance(inner, dict):
                    yield inner
                    yield from (
                        it for it in as_list(inner.get("mainEntity")) if isinstance(it, dict)
                    )


def _resolved(entity: Entity, by_id: dict[str, Entity]) -> Entity:
    return {name: _referred_to(value, by_id) for name, value in entity.items()}


def _referred_to(value: Any, by_id: dict[str, Entity]) -> Any:
    if isinstance(value, list):
        return [_referred_to(item, by_id) for item in value[:_MAX_ITEMS]]
    if isinstance(value, dict) and len(value) <= 2 and isinstance(value.get("@id"), str):  # noqa: PLR2004 (a reference has an @id and perhaps a @type)
        return by_id.get(value["@id"], value)
    return value


def rank(entity: Entity) -> int:
    """Return how near an entity is to what the page is about: the lower, the nearer."""
    types = types_of(entity)
    if any(_WORKS.search(each) or each in _THINGS for each in types):
        return SUBJECT
    return PAGE if any(_PAGES.search(each) for each in types) else OTHER


def types_of(entity: Entity) -> list[str]:
    """Return the types of an entity, without the address of their vocabulary."""
    listed = as_list(entity.get("@type"))[:_MAX_TYPES]
    types = (each for each in listed if isinstance(each, str))
    return [each.rpartition("/")[2].rpartition(":")[2] for each in types]


def as_list(value: Any) -> list[Any]:
    """Return what may be one value, several or none as a list."""
    if isinstance(value, dict) and "@list" in value:
        value = value["@list"]
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def texts(value: Any, *names: str) -> Iterator[str]:
    """Return the texts of a value: its own, or those under `names` where it is an object."""
    waiting = _reversed(value)  # the next item stands last
    for _ in range(_MAX_ITEMS):
        if not waiting:
            return
        item = waiting.pop()
        if isinstance(item, dict):
            named = (item[name] for name in (*names, "@value") if item.get(name))
            waiting += _reversed(next(named, None))
        elif isinstance(item, (str, int, float)) and not isinstance(item, bool):
            yield str(item)


def _reversed(value: Any) -> list[Any]:
    return as_list(value)[:_MAX_ITEMS][::-1]
