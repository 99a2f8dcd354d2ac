"""Fetching a page and reading what it says about itself, as one step."""

import asyncio
from dataclasses import replace

from loguru import logger

from app.extractor.document import HTML_TYPES, extract
from app.models import Document, NotModified, PageMetadata, Validators
from app.runtime import metrics
from app.services import Fetcher

ALONE_CHARACTERS = 32_768
"""A longer page is read in a turn of its own of the event loop."""

IN_THREAD_CHARACTERS = 400_000
"""A longer page is read in a thread, so that others need not wait for it.

Up to this length most pages take 2 ms of CPU. Pages made to be slow take up to 17 ms, and 40 ms if
one has the worst of everything. To hand them to a thread would cost a worker half a millisecond to
a millisecond more CPU for each.
"""


class ExtractingFetcher:
    """A fetcher whose pages have a `document`, if they are HTML.

    One long page is read at a time, and the event loop serves others before the next. A thread
    keeps the interpreter busy in steps of a few milliseconds, between which other threads get their
    turn.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._reading_long = asyncio.Lock()

    async def fetch(self, url: str, validators: Validators | None) -> PageMetadata | NotModified:
        """Fetch a page and read it. Raises what the fetcher raises, and nothing else."""
        result = await self._fetcher.fetch(url, validators)
        if isinstance(result, NotModified) or result.page_source is None:
            return result
        if result.content_type not in HTML_TYPES:
            return result
        return replace(result, document=await self._document_of(result, result.page_source))

    async def _document_of(self, metadata: PageMetadata, html: str) -> Document | None:
        try:
            with metrics.EXTRACTION_SECONDS.time():
                return await self._read(metadata, html)
        except Exception as exc:  # noqa: BLE001 (a page that cannot be read is still to be kept)
            logger.opt(exception=exc).error("extraction_failed")
            return None

    async def _read(self, metadata: PageMetadata, html: str) -> Document:
        if len(html) <= ALONE_CHARACTERS:
            return extract(html, metadata.final_url, metadata.headers)
        async with self._reading_long:
            if len(html) <= IN_THREAD_CHARACTERS:
                await asyncio.sleep(0)
                return extract(html, metadata.final_url, metadata.headers)
            return await asyncio.to_thread(extract, html, metadata.final_url, metadata.headers)
