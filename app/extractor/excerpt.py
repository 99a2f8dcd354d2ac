"""Cuts out of a page the few elements that say something about it.

A parser that builds the whole tree of a page takes, for some pages, a time in proportion to the
square of their size, or a hundred times their size in memory (docs/adr/0006-reading-html.md). So
the tree is built of an excerpt, and this module finds the excerpt. It knows as much of the syntax
as it takes to tell tags from text: how attributes are quoted, comments, and elements whose content
is text (HTML standard, section 13.2.5).

Most of a page is tags and text that say nothing about it. They are not read one by one: a search
finds the next start tag with a notable name, and a look at the quotes before it shows that it is no
part of an attribute, as in `<p title="<title>">`. Only where they do not show that, the tags before
it are read.

Every step costs no more than the characters it passes. Repetitions are possessive (`*+`) and
never give back what they have matched, and one search or match passes a bounded number of
characters or tags, so that other threads get their turn while a large page is read.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

MAX_EXCERPT_CHARACTERS = 262_144
MAX_TAG_CHARACTERS = 16_384
MAX_ATTRIBUTES = 64
"""Of an element that is taken. Lexbor compares every attribute of a tag with all the others."""

MAX_STEPS = 4000
"""How many steps are made through one page: each reads a notable element, or passes what is before
it, of which up to `_TAGS_IN_A_STEP` tags and texts may have to be read. None of 1474 pages from the
evaluation sets in `bench/README.md` needs more than 1481."""

TEXT_WINDOW = 2000
"""In how many characters the end of a heading or a byline is looked for."""

_TAGS_IN_A_STEP = 100
_SEARCHED_AT_ONCE = 65_536
"""In how many characters a notable element is searched for by one call."""

_MAX_SIGNS = 5000
"""How often an author or a date is looked for around one of the `_SIGNS`."""

_MAX_READ_AROUND_SIGNS = 1_000_000
"""How many characters of tags are read around all the signs of a page."""

_LISTED = {"meta": 400, "link": 300, "script": 50}
"""How many elements of each kind are taken. What is left out is missing in the document."""

_SEARCHED = {"html": 1, "base": 5, "title": 1, "img": 20, "time": 20, "h1": 5}
"""How many elements of each kind are taken. One of the first is what is looked for."""

_SIGNED = {"property": 60, "named": 60, "dated": 20}
"""How many elements are taken for what their attributes say, of each kind."""

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


def _any_of(names: Iterable[str]) -> str:
    """Return what matches the names, in upper or lower case."""
    by_initial: dict[str, list[str]] = {}
    for name in sorted(names):
        by_initial.setdefault(name[0], []).append(name[1:])
    return "|".join(
        f"[{initial}{initial.upper()}](?i:{'|'.join(rests)})"
        for initial, rests in by_initial.items()
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """How the next of some elements is found, or the next comment."""

    start: re.Pattern[str]
    """Finds what may be its beginning.

    Most tags are told from these by their first two letters, and that is the fastest test. Only
    then the expression looks back at the whole.
    """

    passed_over: re.Pattern[str]
    """Matches text, and tags up to its beginning."""


@cache
def _search_for(names: frozenset[str]) -> _Search:
    first, second = ("".join({it[at] + it[at].upper() for it in names}) for at in (0, 1))
    tag = rf"(?:{_any_of(names)})[ \t\n\f\r/>]"
    start = rf"<[!{first}][-{second}](?<=(?=<(?:!--|{tag}))...)"
    passed_over = (
        rf"[^<]*+(?:(?:<(?!{tag})(?:{_PLAIN_TAG}|{_ANY_TAG})|</[^>]*+>?+"
        rf"|<(?:[?]|!(?!--))[^>]*+>?+|<(?![a-zA-Z/?!]))[^<]*+){{0,{_TAGS_IN_A_STEP}}}+"
    )
    return _Search(re.compile(start), re.compile(passed_over))


_NOTABLE = frozenset({*_LISTED, *_SEARCHED, *_TEXT_CONTENT, *_FOREIGN_CONTENT})
_LONGEST_START = len("<plaintext>")

_DROPPED = {
    **{kind: {kind} for kind in ("html", "base", "meta", "link", "time", "h1")},
    "img": {"img", "time", "h1"},
}
"""What is passed over as well once enough elements of a kind were found: a page may have
thousands."""

_BEFORE_A_VALUE = frozenset("= \t\n\f\r")

_START_TAG = re.compile(
    rf"<({_NAME})((?:{_ATTRIBUTE}){{0,{MAX_ATTRIBUTES}}}+)[ \t\n\f\r/]*+(?P<end>>?)"
)
"""Matches as much of a start tag as is taken. Its `end` is empty if the tag goes on."""

_EMPTY_COMMENT = re.compile(r"<!---?>")

_SIGNS = {
    "property": ("itemprop",),
    "named": ("uthor", "yline"),
    "dated": ("date", "meta"),
}
"""Parts of words: an element whose attributes have one may be a microdata property, or name an
author (`author`, `Byline`), or hold a date (`post-date`, `postmetadata`)."""

_SAYS_A_DATE = re.compile(r"""(?:class|id)=["']?[^"'=]*?(?:date|meta)""")

_DATED = ("published_time", "datePublished")
"""What says in an element of the head, or in JSON-LD, when a page was published. After it, no date
is looked for in the text."""

_WRITTEN_BY = re.compile(
    r'"author"[\s:\[]*+\{(?=[^{}]*?"Person")[^{}]*?"name"[\s:]*+"[^"\s]++\s[^"]++"'
)
"""Matches what says in JSON-LD who wrote a page: a person with more than one name. After it, no
byline is looked for in the text: to look for one takes as long as all the other signs together."""

_JSON_LD = re.compile(r"ld\+json", re.IGNORECASE)
_LOADS_SOMETHING = re.compile(
    r"""rel=["']?(?:stylesheet|preload|prefetch|preconnect|dns-prefetch|modulepreload)\b""",
    re.IGNORECASE,
)

_BREAKS = re.compile(r"</?(?:br|p|div|li|tr|td)\b[^<>]*+>", re.IGNORECASE)
_SHORT_TEXT = re.compile(r">\s*+([^<>\d]{0,30}+(?:\d[^<>\d]{0,15}+){5,14}+)\s*+(?=<)")
"""A text that may be a date: it has the digits of a year and of a day."""

_BEFORE_A_HEADING = 500
"""In how many characters before a heading its date is looked for. Behind the heading it is looked
for in `TEXT_WINDOW` characters."""

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
        self._notable = _NOTABLE
        self._next_notable = -1
        self._doubtful = -1
        self._signs_left = _MAX_SIGNS
        self._left_around_signs = _MAX_READ_AROUND_SIGNS
        self._truncated = False
        self._told: set[str] = set()

    def read(self) -> Excerpt:
        at = 0
        for _ in range(MAX_STEPS):
            if at >= len(self._html):
                break
            at = self._step(at)
        cut_short = self._truncated or at < len(self._html)
        return Excerpt("<!doctype html>" + "\n".join(self._pieces), truncated=cut_short)

    def _step(self, at: int) -> int:
        """Read on from `at`, where no tag is open; return how far."""
        notable = self._find_notable(at)
        if self._html.find("<", at, notable) < 0:
            return self._read_notable(notable)
        end = notable if self._is_outside_of_tags(notable, at) else self._pass_tags(at)
        self._take_signed(at, end)
        return end

    def _find_notable(self, at: int) -> int:
        """Return where, at or after `at`, a notable element or a comment may begin."""
        if self._next_notable < at:
            self._next_notable = self._search(at)
        return self._next_notable

    def _search(self, at: int) -> int:
        search = _search_for(self._notable).start.search
        while at < len(self._html):
            if found := search(self._html, at, at + _SEARCHED_AT_ONCE):
                return found.start()
            at += _SEARCHED_AT_ONCE - _LONGEST_START
        return len(self._html)

    def _is_outside_of_tags(self, notable: int, at: int) -> bool:
        """Return whether it is certain that no tag between `at` and `notable` is still open.

        It does not matter at the end of the page.
        """
        if notable in (self._doubtful, len(self._html)):
            return notable != self._doubtful
        end = self._html.rfind(">", at, notable)
        if self._html.find("<", max(at, end), notable) >= 0 or self._may_be_quoted(end, at):
            self._doubtful = notable
        return notable != self._doubtful

    def _may_be_quoted(self, end: int, at: int) -> bool:
        """Return whether the `>` at `end` may be part of a quoted value that begins after `at`.

        The last quote before it opens that value then, and has `=` or white space in front.
        """
        quotes = (self._html.rfind(quote, at, end) for quote in "\"'")
        return any(it >= 0 and self._html[it - 1] in _BEFORE_A_VALUE for it in quotes)

    def _pass_tags(self, at: int) -> int:
        """Read some tags and texts; return where they end, at the latest at a notable element."""
        passed = _search_for(self._notable).passed_over.match(self._html, at)
        return passed.end() if passed else at + 1

    def _read_notable(self, at: int) -> int:
        """Read the element or the comment that begins at `at`; return where to go on."""
        if self._html.startswith("<!--", at):
            return self._end_of_comment(at)
        tag = _START_TAG.match(self._html, at)
        if not tag:
            return at + 1
        name = tag[1].lower()
        if not tag["end"]:
            # Passed over as far as it was read: to read any of it again would make the time grow
            # with the square of the length.
            self._truncated |= name in _LISTED
            return tag.end()
        if name in _TEXT_CONTENT:
            return self._read_text_content(name, tag)
        if name in _FOREIGN_CONTENT:
            return self._end_of(name, tag.end(), otherwise=tag.end())[1]
        self._take(name, tag)
        if name == "h1" and self._is_wanted("dated") and self._taken[name] <= _SEARCHED[name]:
            self._take_texts_around(tag)
        return tag.end()

    def _take_texts_around(self, heading: re.Match[str]) -> None:
        """Take the short texts around a heading that may be dates, as `data` elements."""
        start = max(0, heading.start() - _BEFORE_A_HEADING)
        for text in _SHORT_TEXT.finditer(self._html, start, heading.end() + TEXT_WINDOW):
            self._keep("dated", f"<data>{text[1]}</data>", _SIGNED["dated"])

    def _end_of_comment(self, at: int) -> int:
        if empty := _EMPTY_COMMENT.match(self._html, at):
            return empty.end()
        end = self._html.find("-->", at + len("<!--"))
        return len(self._html) if end < 0 else end + len("-->")

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
            if found := _whole_end_tag_of(name).search(self._html, start):
                return found.span()
            self._never_closed.add(name)
        return otherwise, otherwise

    def _take_signed(self, start: int, end: int) -> None:
        """Take the elements between `start` and `end` whose attributes have one of the signs.

        There are only text and tags of other kinds there.
        """
        passed = start
        for tag, kind in self._tags_with_signs(start, end):
            if tag.start() >= passed and (kind != "dated" or _SAYS_A_DATE.search(tag[2])):
                self._take(kind, tag)
                passed = tag.end()

    def _tags_with_signs(self, start: int, end: int) -> Iterator[tuple[re.Match[str], str]]:
        """Return the tags that have a sign, each once for every kind of sign."""
        tag: re.Match[str] | None = None
        kinds: set[str] = set()
        for sign, kind in self._signs_between(start, end):
            self._signs_left -= 1
            if self._signs_left < 0:
                return
            if not self._is_wanted(kind):
                continue
            if not tag or tag.end() <= sign:
                tag, kinds = self._tag_around(sign, start), set()
                start = sign  # what begins before it need not be looked for again
            if tag and tag.end() > sign and kind not in kinds:
                kinds.add(kind)
                yield tag, kind

    def _is_wanted(self, kind: str) -> bool:
        return self._taken[kind] < _SIGNED[kind] and kind not in self._told

    def _signs_between(self, start: int, end: int) -> list[tuple[int, str]]:
        """Return where signs are, and of which kind."""
        return sorted(
            (at, kind)
            for kind in filter(self._is_wanted, _SIGNS)
            for sign in _SIGNS[kind]
            for at in self._places(sign, start, end)
        )

    def _places(self, sign: str, start: int, end: int) -> list[int]:
        places: list[int] = []
        at = self._html.find(sign, start, end)
        while at >= 0 and len(places) < _MAX_SIGNS:
            places.append(at)
            at = self._html.find(sign, at + 1, end)
        return places

    def _tag_around(self, sign: int, start: int) -> re.Match[str] | None:
        begin = self._html.rfind("<", max(start, sign - MAX_TAG_CHARACTERS), sign)
        if begin < 0 or self._left_around_signs < 0:
            return None
        tag = _START_TAG.match(self._html, begin, sign + MAX_TAG_CHARACTERS)
        self._left_around_signs -= tag.end() - begin if tag else 0
        return tag if tag and tag["end"] else None

    def _take(self, kind: str, tag: re.Match[str]) -> None:
        if kind == "link" and _LOADS_SOMETHING.search(tag[2]):
            return
        most = _LISTED.get(kind) or _SEARCHED.get(kind) or _SIGNED[kind]
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
        if self._taken[kind] > most:
            self._notable -= _DROPPED.get(kind, set())
        is_too_long = len(piece) > MAX_TAG_CHARACTERS and kind != "script"
        is_too_much = self._characters + len(piece) > MAX_EXCERPT_CHARACTERS
        if is_too_long or is_too_much or self._taken[kind] > most:
            self._truncated |= kind in _LISTED
            return
        if kind in _LISTED:
            self._note_what_is_told(piece)
        self._pieces.append(piece)
        self._characters += len(piece)

    def _note_what_is_told(self, piece: str) -> None:
        if any(word in piece for word in _DATED):
            self._told.add("dated")
        # Only the first author is looked at, or many would take a time that grows with the square
        # of their number.
        author = piece.find('"author"')
        if author >= 0 and _WRITTEN_BY.match(piece, author):
            self._told.add("named")
        # Microdata of such a page only repeat what is told.
        if {"dated", "named"} <= self._told:
            self._told.add("property")


@cache
def _whole_end_tag_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"</(?i:{name})(?=[ \t\n\f\r/>])[^>]*+>?")


def _end_tag_of(name: str) -> re.Pattern[str]:
    """Return what ends an element: its end tag, which some need not have."""
    end = rf"</{re.escape(name)}[ \t\n\f\r/>]"
    if name in {"p", "li", "td", "dd"}:
        end += r"|</?(?:p|li|td|tr|dd|dt|div|ul|ol|table|h[1-6])[ \t\n\f\r>]"
    return re.compile(end, re.IGNORECASE)
