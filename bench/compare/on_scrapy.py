"""Scrapy, which uses no broker: `python -m bench.compare.on_scrapy SITE_PORT PAGES`.

It makes the URLs itself. Pages that are not stored when it ends are lost.
"""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.http import TextResponse
from scrapy.http.cookies import CookieJar

from bench.compare.collecting import Record, Storage, make_record


class MongoPipeline:
    """Stores each item by pymongo's asynchronous client, which does not block the reactor."""

    async def open_spider(self) -> None:
        """Connect."""
        self._storage = Storage()

    async def process_item(self, item: Record) -> Record:
        """Store one record."""
        await self._storage.store(item)
        return item

    async def close_spider(self) -> None:
        """Close the connection."""
        await self._storage.close()


class PageSpider(scrapy.Spider):
    """Fetches `pages` pages of the site."""

    name = "pages"
    custom_settings = {  # noqa: RUF012 (Scrapy reads a class attribute of this name)
        "ASYNCIO_EVENT_LOOP": "uvloop.Loop",
        "CONCURRENT_REQUESTS": 16,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        "COOKIES_ENABLED": False,  # they are recorded, not sent back
        "DOWNLOAD_DELAY": 0,
        "ITEM_PIPELINES": {MongoPipeline: 0},
        "LOG_LEVEL": "WARNING",
        "ROBOTSTXT_OBEY": False,
        "TELNETCONSOLE_ENABLED": False,
    }

    def __init__(self, *, site_port: int, pages: int, **options: Any) -> None:
        super().__init__(**options)
        self._urls = [f"http://127.0.0.1:{site_port}/0/{number}" for number in range(pages)]

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Yield a request for each page."""
        for url in self._urls:
            yield scrapy.Request(url, meta={"started": datetime.now(UTC)})

    def parse(self, response: TextResponse, **_: Any) -> Record:
        """Return the record of a page."""
        cookies = CookieJar()
        cookies.extract_cookies(response, response.request)
        return make_record(
            response.request.url,
            final_url=response.url,
            status_code=response.status,
            headers=_pairs(response),
            cookies=list(cookies),
            page_source=response.text,
            started=response.meta["started"],
        )


def _pairs(response: TextResponse) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in response.headers.items()
        for value in values
    ]


if __name__ == "__main__":
    process = CrawlerProcess()
    process.crawl(PageSpider, site_port=int(sys.argv[1]), pages=int(sys.argv[2]))
    process.start()
