"""The name of the site that a page belongs to."""
# ruff: noqa: RUF001 (dashes that look like others are what separates names)

import re
import unicodedata

from app.extractor.bounds import MAX_NAME
from app.extractor.fields import first
from app.extractor.page import Page
from app.extractor.sources import PUBLISHER, SITE_NAME, text_of
from app.extractor.text import clean
from app.urls import host_of

_SEPARATOR = re.compile(
    r"\s*+[|»·•]\s*+|(?<=[^\x00-\x7f])_|_(?=[^\x00-\x7f])|\s*+::\s*+|\s[-–—]\s|(?<=\w):\s"
)
_SIGN = re.compile(r"[\W_]+")
_MIN_LETTERS = 3
_MAX_CHARACTERS = 4 * MAX_NAME


def site_name_of(page: Page) -> str | None:
    """Return the name of the site without its tagline.

    Where the page does not name its site, a part of its title counts that is like the name of its
    host: at `example.com`, "Example" of "A headline | Example". The publisher comes last.
    """
    name = (
        first(page, SITE_NAME, _without_tagline)
        or first(page, [text_of("title")], lambda title: _named_like_host(title, page.url))
        or first(page, PUBLISHER, _without_tagline)
    )
    return page.bounds.text(name, MAX_NAME) if name else None


def _without_tagline(text: str) -> str | None:
    return next(iter(_parts(text)), None)


def _parts(text: str) -> list[str]:
    parts = _SEPARATOR.split(clean(text)[:_MAX_CHARACTERS])
    return [part.strip() for part in parts if part.strip()]


def _named_like_host(title: str, url: str) -> str | None:
    parts = _parts(title)
    labels = [_letters(label) for label in host_of(url).split(".")[:-1] if label != "www"]
    # The name mostly stands last, sometimes first.
    candidates = (part for part in parts[:0:-1] + parts[:1] if _is_like(part, labels))
    return next(candidates, None) if len(parts) > 1 else None


def _is_like(part: str, labels: list[str]) -> bool:
    letters = _letters(part.replace("&", "and"))
    return any(
        min(len(label), len(letters)) >= _MIN_LETTERS and (letters in label or label in letters)
        for label in labels
    )


def _letters(text: str) -> str:
    """Return the letters and digits of a text, in lower case and without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return _SIGN.sub("", "".join(it for it in decomposed if not unicodedata.combining(it)))
