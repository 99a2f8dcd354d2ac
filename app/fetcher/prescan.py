"""The encoding that a document declares: the prescan of the HTML standard (section 13.2.3.2).

The functions are the algorithms of the standard. Each goes forward only, and every repetition is
possessive (`*+`), so the cost is in proportion to the bytes. What the bytes end in the middle of
does not count.
"""

import re
from collections.abc import Iterator

import webencodings

from app.fetcher.labels import encoding_of

_UTF_8 = webencodings.lookup("utf-8")
_WINDOWS_1252 = webencodings.lookup("windows-1252")

# What browsers take instead. What could be read as ASCII to get here is not UTF-16.
_TAKEN_INSTEAD = {"utf-16le": _UTF_8, "utf-16be": _UTF_8, "x-user-defined": _WINDOWS_1252}

# How an XML declaration begins in UTF-16, which is told by these bytes alone.
_UTF_16_DECLARATIONS = {"<?x".encode(name): name for name in ("utf-16le", "utf-16be")}
_XML_DECLARATION = re.compile(rb"""\s*+<\?xml\b[^<>]*?\bencoding\s*+=\s*+["']([^"'<>]++)["']""")

_MARKUP = re.compile(
    rb"<(?:(?P<comment>!--)|(?P<meta>meta(?=[\t\n\f\r /]))|(?P<tag>/?[a-z][^\t\n\f\r >]*+)|[!/?])",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    rb"[\t\n\f\r /]*+"
    rb"(?:(?P<end>>)|(?P<name>[^\t\n\f\r />][^\t\n\f\r />=]*+)[\t\n\f\r ]*+"
    rb"(?:=[\t\n\f\r ]*+"
    rb"""(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|(?!["'])(?P<bare>[^\t\n\f\r >]*+))"""
    rb"|(?!=)))"
)
_CHARSET = re.compile(
    rb"charset[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"""(?:"([^"]*+)"|'([^']*+)'|(?!["'])([^\t\n\f\r ;]++)|["'])""",
    re.IGNORECASE,
)


def declared_encoding(beginning: bytes) -> str | None:
    """Return the name of the encoding that a document declares, if it declares one.

    An XML declaration counts too, and first.
    """
    for start, name in _UTF_16_DECLARATIONS.items():
        if beginning.startswith(start):
            return name
    declaration = _XML_DECLARATION.match(beginning)
    if declaration and (encoding := _usable(declaration[1])):
        return encoding.name
    encodings = filter(None, map(_encoding_in, _metas(beginning)))
    return next((encoding.name for encoding in encodings), None)


def _metas(content: bytes) -> Iterator[dict[bytes, bytes]]:
    """Return the attributes of the meta elements, as far as they are complete."""
    at = 0
    while found := _MARKUP.search(content, at):
        attributes: dict[bytes, bytes] = {}
        if found["comment"]:
            # The comment's own dashes may be those of its end: `<!-->` is one.
            end = _behind(b"-->", content, found.start() + 2)
        elif found["meta"] or found["tag"]:
            end = _read_attributes(content, found.end(), attributes)
        else:
            end = _behind(b">", content, found.end())
        if end is None:
            return
        at = end
        if found["meta"]:
            yield attributes


def _behind(mark: bytes, content: bytes, start: int) -> int | None:
    at = content.find(mark, start)
    return None if at < 0 else at + len(mark)


def _read_attributes(content: bytes, at: int, attributes: dict[bytes, bytes]) -> int | None:
    """Read attributes into `attributes`; return where their tag ends, or None if it does not."""
    while found := _ATTRIBUTE.match(content, at):
        at = found.end()
        if found["end"]:
            return at
        value = found["double"] or found["single"] or found["bare"] or b""
        attributes.setdefault(found["name"].lower(), value)
    return None


def _encoding_in(meta: dict[bytes, bytes]) -> webencodings.Encoding | None:
    if b"charset" in meta:
        return _usable(meta[b"charset"])
    if meta.get(b"http-equiv", b"").lower() != b"content-type":
        return None
    found = _CHARSET.search(meta.get(b"content", b""))
    return _usable(found[1] or found[2] or found[3] or b"") if found else None


def _usable(label: bytes) -> webencodings.Encoding | None:
    encoding = encoding_of(label.decode("latin-1"))
    return _TAKEN_INSTEAD.get(encoding.name, encoding) if encoding else None
