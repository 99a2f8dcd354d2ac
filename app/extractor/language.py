"""The language of a page."""

import re

from app.extractor.fields import first
from app.extractor.page import Page
from app.extractor.sources import LANGUAGE

# language[-script][-region][-variants]: the parts of BCP 47 that pages use.
_TAG = re.compile(
    r"([a-z]{2,3})(?:-([a-z]{4}))?(?:-([a-z]{2}|[0-9]{3}))?((?:-[a-z0-9]{4,8})*)(?![a-z0-9])",
    re.IGNORECASE,
)
_NAMES = {"english": "en", "deutsch": "de", "german": "de", "french": "fr", "français": "fr",
          "spanish": "es", "español": "es", "italian": "it", "portuguese": "pt", "russian": "ru",
          "japanese": "ja", "chinese": "zh", "korean": "ko", "arabic": "ar", "dutch": "nl",
          "polish": "pl", "turkish": "tr", "swedish": "sv"}  # fmt: skip
_MAX_CHARACTERS = 60


def language_of(page: Page) -> str | None:
    """Return the language of the page as a tag such as `en` or `pt-BR`."""
    return first(page, LANGUAGE, language_tag)


def language_tag(text: str) -> str | None:
    """Return what is meant by `en_US`, `EN-us`, `en-US, fr` or `English`, or None."""
    text = text.strip()[:_MAX_CHARACTERS].partition(".")[0].replace("_", "-")
    if name := _NAMES.get(text.lower()):
        return name
    found = _TAG.match(text)
    if not found or found[1].lower() in {"und", "mul", "zxx"}:
        return None
    language, script, region, rest = found.groups()
    parts = [language.lower(), script and script.title(), region and region.upper()]
    return "-".join(filter(None, parts)) + rest.lower()
