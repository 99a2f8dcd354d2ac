"""Cuts out of a page the few elements that say something about it.

A parser that builds the whole tree of a page takes, for some pages, a time in proportion to the
square of their size, or a hundred times their size in memory (docs/adr/0006-reading-html.md). So
the tree is built of an excerpt, and this module finds the excerpt. It knows as much of the syntax
as it takes to tell tags from text: how attributes are quoted, comments, and elements whose content
is text (HTML standard, section 13.2.5).

Every step costs no more than the characters it passes. Repetitions are possessive (`*+`) and
never give back what they have matched, and one match passes a bounded number of tags, so that
other threads get their turn while a large page is read.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

MAX_EXCERPT_CHARACTERS = 262_144
MAX_TAG_CHARACTERS = 16_384
MAX_ATTRIBUTES = 64
"""Of an element that is taken. Lexbor compares every attribute of a tag with all the others."""

MAX_STEPS = 10_000
"""How many steps are made through one page: each passes a notable element, or up to
`_TAGS_IN_A_STEP` tags and texts."""

TEXT_WINDOW = 2000
"""In how many characters the end of a heading or a byline is looked for."""

_TAGS_IN_A_STEP = 100
_SIGNS_IN_A_STEP = 50

_LISTED = {"meta": 400, "link": 300, "script": 50}
"""How many elements of each kind are taken. What is left out is missing in the document."""

_SEARCHED = {"html": 1, "base": 5, "title": 1, "img": 20, "time": 20, "h1": 5}
"""How many elements of each kind are taken. One of the first is what is looked for."""

_MAX_SIGNED = 60

# Elements whose content is text, or says nothing about the page.
_TEXT_CONTENT = frozenset(
    {"script", "style", "textarea", "title", "iframe", "xmp", "noembed", "noframes", "plaintext"}
)
_FOREIGN_CONTENT = frozenset({"svg", "template"})
_NO_CONTENT = frozenset({"html", "base", "meta", "link", "img"})

_NAME = r"[a-zA-Z][^ \t\n\f\r/>]*+"
_VALUE = r"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^ \t\n\f\r>"'][^ \t\n\f\r>]*+)?+"""
_ATTRIBUTE = (
    rf"[ \t\n\f\r/]*+[^ \t\n\f\r/>][^ \t\n\f\r/>=]*+(?:[ \t\n\f\r]*+=[ \t\n\f\r]*+{_VALUE})?+"
)

# Most tags have nothing but attributes in double quotes, and are matched faster by the first of
# these two. It stops at any `<` outside quotes: of many tags without an end each would else be
# searched to the end of the page, in vain. Of a tag with more attributes than the second allows,
# the rest counts as text.
_PLAIN_TAG = r"""[a-zA-Z](?:[^"'<>=]*+="[^"]*+"){0,100}+[^"'<>=]*+>"""
_ANY_TAG = rf"{_NAME}(?:{_ATTRIBUTE}){{0,400}}+[ \t\n\f\r/]*+>?+"


def _passing_over_all_but(names: Iterable[str]) -> re.Pattern[str]:
    """Return what matches text, and tags up to the next comment or start tag of `names`."""
    by_initial: dict[str, list[str]] = {}
    for name in sorted(names):
        by_initial.setdefault(name[0], []).append(name[1:])
    notable = "|".join(
        f"[{initial}{initial.upper()}](?i:{'|'.join(rests)})"
        for initial, rests in by_initial.items()
    )
    return re.compile(
        rf"[^<]*+(?:(?:<(?!(?:{notable})[ \t\n\f\r/>])(?:{_PLAIN_TAG}|{_ANY_TAG})|</[^>]*+>?+"
        rf"|<[?!](?!--)[^>]*+>?+|<++(?![a-zA-Z/?!])|<++(?=<))[^<]*+){{0,{_TAGS_IN_A_STEP}}}+"
    )


_NOTABLE = frozenset({*_LISTED, *_SEARCHED, *_TEXT_CONTENT, *_FOREIGN_CONTENT})
_PASSED_OVER = _passing_over_all_but(_NOTABLE)
_PASSED_OVER_LATER = _passing_over_all_but(_NOTABLE - {"img", "time", "h1"})
"""For when enough images have been found: a page may have thousands."""

_START_TAG = re.compile(rf"<({_NAME})((?:{_ATTRIBUTE}){{0,{MAX_ATTRIBUTES}}}+)[ \t\n\f\r/]*+>")
_NAME_ALONE = re.compile(rf"<({_NAME})")
_COMMENT_START = re.compile(r"<!--(?:-?>)?")

_SIGNS = ("itemprop", "uthor", "yline")
"""Parts of words: an element whose attributes have one may name an author (`author`, `Byline`), or
be a microdata property."""

_JSON_LD = re.compile(r"ld\+json", re.IGNORECASE)
_LOADS_SOMETHING = re.compile(
    r"""rel=["']?(?:stylesheet|preload|prefetch|preconnect|dns-prefetch|modulepreload)\b""",
    re.IGNORECASE,
)

_BREAKS = re.compile(r"</?(?:br|p|div|li|tr|td)\b[^>]*+>", re.IGNORECASE)
_TAG_LIKE = re.compile(r"<[^>]*+>?")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a page, small enough to be parsed."""

    html: str

    truncated: bool
    """Whether elements were left out that would have been listed."""


def excerpt_of(html: str) -> Excerpt:
    """Return what is worth parsing of a page."""
    return _Reader(html).read()


class _Reader:
    """Reads a page once, from its beginning to its end."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._pieces: list[str] = []
        self._characters = 0
        self._taken: Counter[str] = Counter()
        self._never_closed: set[str] = set()
        self._next_signs = dict.fromkeys(_SIGNS, -1)
        self._truncated = False

    def read(self) -> Excerpt:
        at = 0
        for _ in range(MAX_STEPS):
            if at >= len(self._html):
                break
            at = self._step(at)
        cut_short = self._truncated or at < len(self._html)
        return Excerpt("<!doctype html>" + "\n".join(self._pieces), truncated=cut_short)

    def _step(self, at: int) -> int:
        """Read on from `at`; return how far."""
        has_images = self._taken["img"] >= _SEARCHED["img"]
        passed_over = _PASSED_OVER_LATER if has_images else _PASSED_OVER
        passed = passed_over.match(self._html, at)
        if not passed or passed.end() == at:
            return self._read_notable(at)
        self._take_signed(at, passed.end())
        return passed.end()

    def _read_notable(self, at: int) -> int:
        """Read the element or the comment that begins at `at`; return where to go on."""
        if comment := _COMMENT_START.match(self._html, at):
            return comment.end() if comment[0].endswith(">") else self._behind("-->", comment.end())
        tag = _START_TAG.match(self._html, at)
        if not tag:
            return self._pass_oversized(at)
        name = tag[1].lower()
        if name in _TEXT_CONTENT:
            return self._read_text_content(name, tag)
        if name in _FOREIGN_CONTENT:
            return self._end_of(name, tag.end(), otherwise=tag.end())[1]
        self._take(name, tag)
        return tag.end()

    def _pass_oversized(self, at: int) -> int:
        """Pass over a start tag with too many attributes, or without an end."""
        name = _NAME_ALONE.match(self._html, at)
        self._truncated |= bool(name and name[1].lower() in _LISTED)
        return name.end() if name else at + 1

    def _read_text_content(self, name: str, tag: re.Match[str]) -> int:
        content_end, end = self._end_of(name, tag.end(), otherwise=len(self._html))
        if name == "title":
            text = self._html[tag.end() : min(content_end, tag.end() + TEXT_WINDOW)]
            self._keep(name, f"<title>{text}</title>", _SEARCHED[name])
        elif name == "script" and _JSON_LD.search(tag[2]):
            self._keep(
                name, f"{tag[0]}{self._html[tag.end() : content_end]}</script>", _LISTED[name]
            )
        return end

    def _end_of(self, name: str, start: int, *, otherwise: int) -> tuple[int, int]:
        """Return where the content of an element ends, and where its end tag does.

        The end tag is searched for in the rest of the page, so if it is not there, it is not
        searched for again.
        """
        if name not in self._never_closed:
            end_tag = re.compile(rf"</(?i:{name})(?=[ \t\n\f\r/>])[^>]*+>?")
            if found := end_tag.search(self._html, start):
                return found.span()
            self._never_closed.add(name)
        return otherwise, otherwise

    def _behind(self, mark: str, start: int) -> int:
        at = self._html.find(mark, start)
        return len(self._html) if at < 0 else at + len(mark)

    def _take_signed(self, start: int, end: int) -> None:
        """Take the elements between `start` and `end` whose attributes have one of the signs.

        There are only text and tags of other kinds there.
        """
        for _ in range(_SIGNS_IN_A_STEP):
            sign = self._next_sign(start)
            if sign >= end or self._taken["signed"] >= _MAX_SIGNED:
                return
            tag_start = self._html.rfind("<", max(start, sign - MAX_TAG_CHARACTERS), sign)
            tag = _START_TAG.match(self._html, tag_start) if tag_start >= 0 else None
            start = sign + 1
            if tag and tag.end() > sign:
                self._take("signed", tag)
                start = tag.end()

    def _next_sign(self, start: int) -> int:
        """Return where the first sign at or after `start` is. `start` never goes back."""
        for sign, at in self._next_signs.items():
            if at < start:
                found = self._html.find(sign, start)
                self._next_signs[sign] = len(self._html) if found < 0 else found
        return min(self._next_signs.values())

    def _take(self, kind: str, tag: re.Match[str]) -> None:
        if kind == "link" and _LOADS_SOMETHING.search(tag[2]):
            return
        most = _LISTED.get(kind) or _SEARCHED.get(kind) or _MAX_SIGNED
        if kind in _NO_CONTENT:
            self._keep(kind, tag[0], most)
            return
        # Whatever it was, it is to stand where it is: a cell without a table would be dropped.
        name = tag[1].lower() if tag[1].lower() in {"a", "time", "h1"} else "span"
        text = self._text_behind(tag)
        self._keep(kind, f"<{name}{tag[2]}>{text}</{name}>", most)

    def _text_behind(self, tag: re.Match[str]) -> str:
        """Return the content of an element up to its end tag, without the tags in it."""
        window = self._html[tag.end() : tag.end() + TEXT_WINDOW]
        found = _end_tag_of(tag[1].lower()).search(window)
        content = window[: found.start()] if found else ""
        return _TAG_LIKE.sub("", _BREAKS.sub(" ", content))

    def _keep(self, kind: str, piece: str, most: int) -> None:
        self._taken[kind] += 1
        is_too_long = len(piece) > MAX_TAG_CHARACTERS and kind != "script"
        is_too_much = self._characters + len(piece) > MAX_EXCERPT_CHARACTERS
        if is_too_long or is_too_much or self._taken[kind] > most:
            self._truncated |= kind in _LISTED
            return
        self._pieces.append(piece)
        self._characters += len(piece)


def _end_tag_of(name: str) -> re.Pattern[str]:
    """Return what ends an element: its end tag, which some need not have."""
    end = rf"</{re.escape(name)}[ \t\n\f\r/>]"
    if name in {"p", "li", "td", "dd"}:
        end += r"|</?(?:p|li|td|tr|dd|dt|div|ul|ol|table|h[1-6])[ \t\n\f\r>]"
    return re.compile(end, re.IGNORECASE)
