"""Text as people read it, out of what pages hold."""

import html
import re
import unicodedata

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
# Of other tags, people write: "The <canvas> element" is a title.
_TAGS = r"(?:p|br|b|i|em|strong|a|span|div|ul|ol|li|sub|sup|u|font|h[1-6])"
_IS_MARKUP = re.compile(rf"</{_TAGS}>|<br */?>", re.IGNORECASE)
_MARKUP = re.compile(rf"</?{_TAGS}(?:[ \t\n/][^<>]*+)?>", re.IGNORECASE)
# Control characters, and those that only say which way the text around them runs.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_SIGNS = re.compile(r"[\W_]+")

_MAX_COMPARED = 1000
"""Of how many characters the letters are taken. Some characters decompose into eighteen."""


def clean(text: str) -> str:
    """Return text in one line: without markup, with entities decoded that were encoded twice."""
    for _ in range(2):
        if not _ENTITY.search(text):
            break
        text = html.unescape(text)
    if _IS_MARKUP.search(text):
        text = _MARKUP.sub(" ", text)
    return " ".join(_INVISIBLE.sub("", text).split())


def letters_of(text: str) -> str:
    """Return the letters and digits of a text, in lower case and without accents.

    Of a long text, those at its beginning are returned.
    """
    letters = text[:_MAX_COMPARED].lower()
    if not letters.isascii():
        decomposed = unicodedata.normalize("NFKD", letters)
        letters = "".join(it for it in decomposed if not unicodedata.combining(it))
    return _SIGNS.sub("", letters)
