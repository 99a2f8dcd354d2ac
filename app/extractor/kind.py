"""What kind of page it is, in the words of Open Graph."""

from app.extractor.bounds import MAX_NAME
from app.extractor.fields import first
from app.extractor.json_ld import rank, types_of
from app.extractor.page import Page
from app.extractor.sources import meta
from app.extractor.text import clean

# What JSON-LD calls it, and what Open Graph does (https://ogp.me/#types).
_KINDS = (
    (("Article", "Posting", "Report"), "article"),
    (("Product", "ProductGroup"), "product"),
    (("Movie",), "video.movie"),
    (("TVEpisode", "Episode"), "video.episode"),
    (("VideoObject",), "video.other"),
    (("MusicRecording",), "music.song"),
    (("MusicAlbum",), "music.album"),
    (("Book",), "book"),
    (("ProfilePage",), "profile"),
    (("WebSite",), "website"),
)


def kind_of(page: Page) -> str | None:
    """Return `og:type`, or what fits the type of the page's JSON-LD best."""
    kind = first(page, [meta("og:type")], lambda text: clean(text).lower() or None)
    return page.bounds.text(kind, MAX_NAME) if kind else _by_json_ld(page)


def _by_json_ld(page: Page) -> str | None:
    nearest = [entity for entity in page.entities if rank(entity) == rank(page.entities[0])]
    types = [each for entity in nearest for each in types_of(entity)]
    kinds = (kind for each in types for endings, kind in _KINDS if each.endswith(endings))
    return next(kinds, None)
