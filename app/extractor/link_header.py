"""Links in response headers (RFC 8288)."""

import re
from collections.abc import Iterator

from app.extractor.page import Page

_MAX_CHARACTERS = 16_384
_LINK = re.compile(r"""<([^<>]*+)>((?:[^<>,"]|"[^"]*+")*+)""")
_REL = re.compile(r""";[ \t]*+rel[ \t]*+=[ \t]*+(?:"([^"]*+)"|([^;, \t"]++))""", re.IGNORECASE)


def targets(page: Page, rel: str) -> Iterator[str]:
    """Return the targets of the links of one kind. They are relative to the page itself."""
    for value in page.headers.get("link", ()):
        for target, parameters in _LINK.findall(value[:_MAX_CHARACTERS]):
            found = _REL.search(parameters)
            if found and rel in (found[1] or found[2] or "").lower().split():
                yield target
