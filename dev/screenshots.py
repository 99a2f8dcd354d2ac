"""`just screenshots`: takes the pictures of `docs/messages.md` again."""

import asyncio

from loguru import logger
from playwright.async_api import Page, ViewportSize

from dev.browser import chromium, serving_pages
from dev.stack import ROOT

FOLDER = ROOT / "docs" / "images"
SIZE: ViewportSize = {"width": 1280, "height": 860}


async def main() -> None:
    """Take a picture of each kind of page."""
    logger.remove()  # nobody wants to read the browser's requests here
    FOLDER.mkdir(exist_ok=True)
    with serving_pages() as url:
        async with chromium() as browser:
            page = await browser.new_page(viewport=SIZE)
            await page.goto(f"{url}/asyncapi/worker")
            await page.get_by_role("link", name="Retry in 5s").click()
            await _take(page, "asyncapi")
            await page.get_by_text("x-message-ttl").first.scroll_into_view_if_needed()
            await _take(page, "asyncapi-queue")
            await page.goto(f"{url}/docs")
            await page.get_by_role("button", name="Read a page").click()
            await page.get_by_text("200", exact=True).first.scroll_into_view_if_needed()
            await _take(page, "swagger")
            await page.goto(f"{url}/redoc")
            await page.get_by_role("menuitem").filter(has_text="metadata").first.click()
            await _take(page, "redoc")


async def _take(page: Page, name: str) -> None:
    await page.wait_for_load_state("networkidle")
    await page.wait_for_timeout(1000)  # scrolling is animated
    await page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    asyncio.run(main())
