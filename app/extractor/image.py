"""The image that stands for a page."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from app.extractor.bounds import MAX_TITLE
from app.extractor.json_ld import PAGE, SUBJECT, as_list, rank, texts
from app.extractor.page import Element, Page
from app.extractor.text import clean
from app.models import PageImage

_MIN_SIDE = 150
"""An image whose stated width or height is less is taken for a button or an icon."""

_MAX_PIXELS = 100_000

_MAX_IMAGES = 50
"""How many of the images in JSON-LD are looked at."""

_DECORATION = (
    "logo", "icon", "sprite", "avatar", "pixel", "spacer", "blank.", "loading", "placeholder",
    "badge", "button", "emoji", "tracking", "1x1", "banner-ad", "gravatar", ".svg",
)  # fmt: skip

_META_NAMES = (
    "twitter:image", "twitter:image:src", "parsely-image-url", "sailthru.image.full",
    "sailthru.image.thumb", "image", "thumbnail", "thumbnailurl", "msapplication-wide310x150logo",
)  # fmt: skip

_SOURCE_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src", "src")


def image_of(page: Page) -> PageImage | None:
    """Return the image that the page names, or else the first large one in its text."""
    found = next(_candidates(page), None)
    if found and found.alt:
        return replace(found, alt=page.bounds.text(found.alt, MAX_TITLE))
    return found


def _candidates(page: Page) -> Iterator[PageImage]:
    yield from _open_graph(page)
    yield from _named_by_meta(page, _META_NAMES[:2], alt="twitter:image:alt")
    yield from _in_json_ld(page, SUBJECT)
    for element in page.properties("image"):
        yield from _image(page, element.value)
    for element in page.links("image_src"):
        yield from _image(page, element.attributes.get("href", ""))
    yield from _named_by_meta(page, _META_NAMES[2:])
    yield from _in_json_ld(page, PAGE)
    yield from _large_images(page)


def _image(
    page: Page, url: str, alt: str = "", width: Any = None, height: Any = None
) -> Iterator[PageImage]:
    """Return an image, unless `url` is none: a data URL, for example, is not kept."""
    absolute = page.absolute(url) if url.strip() else None
    if absolute:
        yield PageImage(absolute, clean(alt) or None, pixels(width), pixels(height))


def _open_graph(page: Page) -> Iterator[PageImage]:
    """Return the images of Open Graph; what is said of an image follows it."""
    images: list[dict[str, str]] = []
    for element in page.all("meta"):
        name = (element.attributes.get("property") or element.attributes.get("name", "")).lower()
        content = element.attributes.get("content", "")
        if name == "og:image" or (name.startswith("og:image:") and not images):
            images.append({})
        if name.startswith("og:image"):
            images[-1].setdefault(name.removeprefix("og:image").lstrip(":"), content)
    for image in images:
        sizes = image.get("width"), image.get("height")
        for name in ("", "secure_url", "url"):
            yield from _image(page, image.get(name, ""), image.get("alt", ""), *sizes)


def _named_by_meta(page: Page, names: tuple[str, ...], *, alt: str = "") -> Iterator[PageImage]:
    words = next(iter(page.metas.get(alt, ())), "")
    for name in names:
        for content in page.metas.get(name, ()):
            yield from _image(page, content, words)


def _in_json_ld(page: Page, nearness: int) -> Iterator[PageImage]:
    names = ("image", "primaryImageOfPage", "thumbnailUrl", "thumbnail")
    near = (entity for entity in page.entities if rank(entity) == nearness)
    values = (it for entity in near for name in names for it in as_list(entity.get(name)))
    for value in islice(values, _MAX_IMAGES):
        yield from _image_object(page, value)


def _image_object(page: Page, value: Any) -> Iterator[PageImage]:
    if isinstance(value, str):
        yield from _image(page, value)
    if isinstance(value, dict):
        caption = value.get("caption")
        alt = caption if isinstance(caption, str) else ""
        for url in texts([value.get(name) for name in ("url", "contentUrl", "@id")]):
            yield from _image(page, url, alt, value.get("width"), value.get("height"))


def _large_images(page: Page) -> Iterator[PageImage]:
    images = [element for element in page.all("img") if not _is_decoration(element)]
    for element in sorted(images, key=lambda it: not _is_stated_large(it)):
        urls = (element.attributes.get(name, "") for name in _SOURCE_ATTRIBUTES)
        url = next((url for url in urls if page.absolute(url) and url.strip()), "")
        attributes = element.attributes
        yield from _image(
            page, url, attributes.get("alt", ""), attributes.get("width"), attributes.get("height")
        )


def _is_decoration(image: Element) -> bool:
    sides = [pixels(image.attributes.get(name)) for name in ("width", "height")]
    if any(side is not None and side < _MIN_SIDE for side in sides):
        return True
    said = " ".join(image.attributes.get(name, "") for name in ("src", "class", "id")).lower()
    return any(word in said for word in _DECORATION)


def _is_stated_large(image: Element) -> bool:
    return pixels(image.attributes.get("width")) is not None


def pixels(value: Any) -> int | None:
    """Return a stated length such as `1200`, `"1200"` or `"1200px"` in pixels, or None."""
    if isinstance(value, dict):  # a QuantitativeValue of schema.org
        value = value.get("value")
    text = str(value).strip().lower().removesuffix("px").removesuffix(".0").strip()
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(_MAX_PIXELS)):
        return None
    return int(text) if 0 < int(text) <= _MAX_PIXELS else None
