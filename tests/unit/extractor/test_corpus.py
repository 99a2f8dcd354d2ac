"""Pages of many kinds, each with what a person expects to be read from it.

`python -m bench.extraction` prints the agreement for each field as a figure.
"""

import json
from typing import Any

import pytest

from app.extractor.document import extract
from app.models import Header
from bench.extraction import CORPUS, TARGETS, comparisons, plain

RESULTS = list(comparisons())


def extracted(name: str) -> Any:
    case = json.loads((CORPUS / f"{name}.json").read_text(encoding="utf-8"))
    headers = [Header(*header) for header in case.get("headers", {}).items()]
    return extract((CORPUS / f"{name}.html").read_text(encoding="utf-8"), case["url"], headers)


@pytest.mark.parametrize("page", sorted({result.page for result in RESULTS}))
def test_every_field_of_a_page_is_what_a_person_expects(page: str) -> None:
    of_page = [result for result in RESULTS if result.page == page]
    found = {result.field: result.found for result in of_page}
    assert found == {result.field: result.expected for result in of_page}


@pytest.mark.parametrize("field", TARGETS)
def test_enough_pages_of_the_corpus_have_a_field(field: str) -> None:
    assert sum(it.expected is not None for it in RESULTS if it.field == field) >= 15


def test_links_are_listed_with_absolute_urls() -> None:
    video, shop = extracted("video-watch"), extracted("shop-product")
    assert [(it.url, it.type, it.title) for it in video.oembed] == [
        (
            "https://www.viewtube.example/oembed?format=json&url=https%3A%2F%2Fwww.viewtube.example%2Fwatch%3Fv%3DZx81kq",
            "application/json+oembed",
            "How lighthouses work",
        ),
        (
            "https://www.viewtube.example/oembed?format=xml&url=x",
            "text/xml+oembed",
            "How lighthouses work",
        ),
    ]
    assert [(it.url, it.language) for it in shop.alternates] == [
        ("https://shop.kaufwerk.example/de/p/wasserkocher-edelstahl-17-4711", "de"),
        ("https://shop.kaufwerk.example/en/p/steel-kettle-4711", "en"),
        ("https://shop.kaufwerk.example/p/4711", "x-default"),
    ]
    (feed,) = extracted("blog-hugo").feeds
    assert (feed.url, feed.type, feed.title) == (
        "https://kneading.example/index.xml",
        "application/rss+xml",
        "Kneading Notes",
    )


def test_the_best_icon_scales_or_is_the_largest() -> None:
    assert extracted("government").icon.url == "https://www.gov.example/favicon.svg"
    assert extracted("news-metro").icon.url == "https://www.northportcourier.example/touch-180.png"
    assert [icon.rel for icon in extracted("repository").icons] == ["mask-icon", "icon", "icon"]
    assert extracted("empty").icon is None


def test_what_is_said_of_an_image_goes_with_it() -> None:
    image = extracted("news-metro").image
    assert (image.alt, image.width, image.height) == ("The Harbour Bridge at sunrise", 1200, 630)


def test_open_graph_and_twitter_properties_are_kept_as_they_are_named() -> None:
    document = extracted("news-metro")
    assert document.open_graph["og:image"] == (
        "https://img.northportcourier.example/bridge-1200x630.jpg",
    )
    assert document.twitter == {"twitter:card": "summary_large_image", "twitter:site": "@npcourier"}


def test_json_ld_is_kept_as_far_as_it_parses() -> None:
    recipe, site = extracted("messy-jsonld").json_ld
    assert recipe["@type"] == "Recipe"
    assert site == {"@type": "WebSite", "name": "Cook Corner"}
    assert [it["@type"] for it in extracted("video-jsonld").json_ld] == [
        "BreadcrumbList",
        ["VideoObject", "CreativeWork"],
    ]


def test_robots_are_told_by_the_page_and_by_its_headers() -> None:
    headers = [
        Header("x-robots-tag", "noarchive, NOINDEX"),
        Header("x-robots-tag", "examplebot: nosnippet"),
        Header("x-robots-tag", "max-snippet: 20"),
    ]
    page = "<meta name=robots content='noindex, follow'>"
    assert extract(page, "http://a.test/", headers).robots == (
        "noindex",
        "follow",
        "noarchive",
        "max-snippet: 20",
    )


def test_the_theme_color_is_kept_as_written() -> None:
    assert extracted("home-website").theme_color == "#fafafa"


def test_the_value_of_a_date_is_compared_as_a_moment() -> None:
    assert plain(extracted("korean-news"), "published_at") == "2025-11-26T23:10:00Z"
