"""`just screenshots`: takes the pictures of the README and of `docs/messages.md` again."""

import asyncio

from loguru import logger
from playwright.async_api import Browser, Page, ViewportSize, expect

from dev.browser import chromium, serving_pages
from dev.demo import fetched
from dev.site import DemoSite
from dev.stack import ROOT, Api

FOLDER = ROOT / "docs" / "images"
SIZE: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}
SAMPLE_MILLISECONDS = 6000


def main() -> None:
    """Take a picture of each kind of page."""
    FOLDER.mkdir(exist_ok=True)
    with fetched([]) as (api, _expected, _answers), DemoSite() as site:
        asyncio.run(_take_inventory(api, site))
    logger.remove()  # nobody wants to read the browser's requests here
    with serving_pages() as url:
        asyncio.run(_take_contracts(url))


# --- The inventory, of a service that has fetched the pages of the demo ---------------------------


async def _take_inventory(api: Api, site: DemoSite) -> None:
    async with chromium() as browser:
        page = await browser.new_page(viewport=SIZE)
        await page.goto(f"{api.url}/inventory")
        for path in ("/article", "/poem.txt", "/busy", "/missing", "/moved", "/article"):
            await _ask_for(page, f"{site.url}{path}")
            await page.wait_for_timeout(SAMPLE_MILLISECONDS)  # the charts are to show something
        await _ask_for(page, f"{site.url}/busy")
        await expect(page.locator("#list").get_by_text("to be tried again")).to_be_visible()
        await page.screenshot(path=FOLDER / "inventory.png")
        await _take_phone(browser, f"{api.url}/inventory")


async def _ask_for(page: Page, url: str) -> None:
    await page.get_by_label("URL", exact=True).fill(url)
    await page.keyboard.press("Enter")


async def _take_phone(browser: Browser, url: str) -> None:
    page = await browser.new_page(viewport=PHONE, color_scheme="dark", device_scale_factor=2)
    await page.goto(url)
    await page.get_by_role("link", name="A beach at dawn").click()
    await page.get_by_role("button", name="Load it from").click()
    await expect(page.get_by_role("img", name="Waves under a rising sun")).to_be_visible()
    await page.screenshot(path=FOLDER / "inventory-phone.png")


# --- The contracts, of an API without servers -----------------------------------------------------


async def _take_contracts(url: str) -> None:
    async with chromium() as browser:
        page = await browser.new_page(viewport=SIZE)
        await page.goto(f"{url}/asyncapi/worker")
        await page.get_by_role("link", name="Retry later").click()
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
    main()
