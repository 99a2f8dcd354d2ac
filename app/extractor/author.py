"""Who wrote a page."""
# ruff: noqa: RUF001 (pages have dashes and full-width colons that look like others)

import re
from itertools import islice

from app.extractor.bounds import MAX_NAME, MAX_TITLE
from app.extractor.page import Page
from app.extractor.sources import AUTHOR, Source
from app.extractor.text import clean

_MAX_AUTHORS = 20

_BY = re.compile(
    r"(?:(?:written |posted |published |words |text |story |article )?by|von|por|par|di|door|av|af|"
    r"autor|author|автор)\b[: ]*+(?=\S)|(?:文|作者|記者|记者)\s*+[:：/]\s*+|by\s*+:\s*+",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"^(?:https?:)?//|^www\.|^[/#]|^mailto:", re.IGNORECASE)
_WITH_EMAIL = re.compile(r"\s*+[(<]?\b[^\s()<>@]{1,64}@[^\s()<>@]{1,255}[)>]?|[()]")
_BEHIND_NAME = re.compile(r"\s*+[|•·–—].*+|\s(?:-|on|updated)\s.*+", re.IGNORECASE)
_HANDLE = re.compile(r"^@\w{1,50}$")
_NOBODY = frozenset({"admin", "administrator", "unknown", "anonymous", "author", "null", "none",
                     "undefined", "n/a", "user", "root", "webmaster", "editor"})  # fmt: skip


def author_of(page: Page) -> str | None:
    """Return the names of the authors, from the first place that names any."""
    names = next(filter(None, (_names(page, source) for source in AUTHOR)), None)
    return page.bounds.text(", ".join(names), MAX_TITLE) if names else None


def _names(page: Page, source: Source) -> list[str]:
    """Return the names in one place, each once."""
    names = (name for text in islice(source(page), _MAX_AUTHORS) if (name := author_name(text)))
    return list({name.lower(): name for name in names}.values())


def author_name(text: str) -> str | None:
    """Return a name without "by" and the like, or None for an address or nobody in particular."""
    name = clean(text[: 4 * MAX_NAME])
    if _ADDRESS.match(name) or _HANDLE.match(name):
        return None
    if by := _BY.match(name):
        name = name[by.end() :]
    name = _BEHIND_NAME.sub("", _WITH_EMAIL.sub("", name)).strip(" ,;:|-–—")
    return name if name and len(name) <= MAX_NAME and name.lower() not in _NOBODY else None
