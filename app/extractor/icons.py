"""The icons of a page."""

import re
from collections.abc import Iterator

from app.extractor.bounds import MAX_LINKS, MAX_NAME
from app.extractor.page import Page
from app.models import PageIcon

_RELS = ("icon", "apple-touch-icon", "apple-touch-icon-precomposed", "fluid-icon", "mask-icon")
_SIZE = re.compile(r"(\d{1,5})x\d{1,5}", re.IGNORECASE)

_SCALES = 10_000
_TOUCH_ICON_SIZE = 180
_ICON_SIZE = 16


def icons_of(page: Page) -> tuple[PageIcon, ...]:
    """Return the icons in the order in which the page links to them."""
    return page.bounds.items(_icons(page), MAX_LINKS)


def best_of(icons: tuple[PageIcon, ...]) -> PageIcon | None:
    """Return the icon that scales, or else the largest; of equals the first."""
    return max(icons, key=_size, default=None)


def _icons(page: Page) -> Iterator[PageIcon]:
    for link in page.all("link"):
        rel = next((rel for rel in _RELS if rel in link.words("rel")), None)
        url = page.absolute(link.attributes.get("href", "")) if rel else None
        if rel and url and link.attributes.get("href", "").strip():
            attributes = link.attributes
            sizes, kind = (
                attributes.get("sizes", "")[:MAX_NAME],
                attributes.get("type", "")[:MAX_NAME],
            )
            yield PageIcon(url, sizes.strip() or None, kind.strip() or None, rel)


def _size(icon: PageIcon) -> int:
    """Return the width of an icon, as far as the page states it or its kind has one."""
    if icon.rel == "mask-icon":  # a shape to be filled with a colour
        return 0
    if icon.type == "image/svg+xml" or icon.url.partition("?")[0].endswith(".svg"):
        return _SCALES
    if sizes := _SIZE.findall(icon.sizes or ""):
        return max(map(int, sizes))
    return _TOUCH_ICON_SIZE if icon.rel.startswith("apple") else _ICON_SIZE
