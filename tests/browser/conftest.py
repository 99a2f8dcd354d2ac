"""The pages in Chromium, with a record of errors and of requests to other servers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, expect

from dev.browser import chromium, serving_pages


@dataclass
class Visit:
    """A page, with the errors of the browser and the requests that went to other servers."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", self._note_failure)
        self.page.on("request", self._note_request)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself has given it up
            self.errors.append(request.url)

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.elsewhere.append(request.url)


class Open(Protocol):
    """Opens a page by its path. `prepare` is called with the page before it is opened."""

    async def __call__(
        self, path: str, prepare: Callable[[Page], Awaitable[None]] | None = None
    ) -> Visit: ...


# Playwright gives up after 5 s by default. Redoc draws its page in one second on an idle machine,
# and took more than five beside three other processes of tests on two cores. What is looked for has
# to appear; how soon is not what these tests are about.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_pages() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, url: str) -> AsyncIterator[Open]:
    context = await browser.new_context(viewport={"width": 1280, "height": 900})

    async def open_page(
        path: str, prepare: Callable[[Page], Awaitable[None]] | None = None
    ) -> Visit:
        visit = Visit(await context.new_page(), url)
        if prepare:
            await prepare(visit.page)
        await visit.page.goto(url + path)
        return visit

    yield open_page
    await context.close()
