"""`/inventory`, the page for people, in a real browser."""

import asyncio
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from app.keys import Scope
from dev.site import DemoSite
from dev.stack import Api
from tests.browser.conftest import Open, Visit
from tests.browser.fake_inventory import FakeInventory, Record, completed, failed, in_progress
from tests.command_line import pagemeta
from tests.service import Service, started

pytestmark = pytest.mark.asyncio(loop_scope="session")

URL = "https://example.com/"
KEY = "pm_0123456789ab_secret"


async def opened(visit: Open, fake: FakeInventory, place: str = "") -> Visit:
    """Open the page with the fake behind it."""
    return await visit(f"/inventory{place}", fake.serve)


def at(url: str) -> str:
    return f"#url={quote(url, safe='')}"


# --- On a real service ---


@pytest.fixture(scope="module")
def api(shared_service: Service) -> Api:
    api, _worker = started(shared_service.api(), shared_service.worker())
    return api


async def test_a_page_is_asked_for_comes_in_and_is_found_read_copied_and_deleted(
    browser: Browser, api: Api
) -> None:
    context = await browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    with DemoSite() as site:
        await page.goto(f"{api.url}/inventory")
        await expect(page.get_by_text("The inventory has no pages yet.")).to_be_visible()
        for path in ("/moved", "/missing", "/poem.txt"):
            await page.get_by_label("URL", exact=True).fill(f"{site.url}{path}")
            await page.keyboard.press("Enter")
        submitted = page.get_by_label("Pages asked for in this tab")
        await expect(submitted).to_contain_text("/missing: fetched: HTTP 404")
        await expect(submitted).to_contain_text("/moved: fetched: HTTP 200")
        list_ = page.get_by_role("table", name="Pages")
        for title in ("Home", "Not found", f"{site.url}/poem.txt"):
            await expect(list_.get_by_role("link", name=title, exact=True)).to_be_visible()
        await page.get_by_label("Words of title or host").fill("hom")
        await expect(page.get_by_text("1 page.")).to_be_visible()
        await list_.get_by_role("link", name="Home").click()
        await expect(page.get_by_role("heading", name="Home")).to_be_focused()
        await expect(page.get_by_text("visitor", exact=True)).to_be_visible()
        await expect(page.get_by_role("listitem").filter(has_text="301, to /")).to_be_visible()
        await page.get_by_role("button", name="Show the source").click()
        await expect(page.get_by_label("Source of the page")).to_contain_text("<title>Home</title>")
        await page.get_by_role("button", name="Copy as curl").click()
        await expect(page.get_by_text("The command is copied.")).to_be_visible()
        copied = await page.evaluate("navigator.clipboard.readText()")
        moved = quote(f"{site.url}/moved", safe="")
        assert copied == f"curl '{api.url}/metadata?url={moved}&queue=false'"
        await page.get_by_role("button", name="Fetch anew").click()
        await expect(page.get_by_text("The fetch has ended.")).to_be_visible()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Keep it").click()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Delete it").click()
        await expect(page.get_by_text(f"Deleted {site.url}/moved.")).to_be_visible()
        await page.get_by_role("button", name="Show all").click()
        await expect(page.get_by_text("2 pages.")).to_be_visible()
        await expect(page.get_by_text(re.compile(r"\.requests 0$")).first).to_be_visible()
    await context.close()


async def test_an_error_of_the_api_is_told_in_its_own_words(visit: Open, api: Api) -> None:
    page = (await visit("/")).page
    await page.goto(f"{api.url}/inventory")
    await page.get_by_label("URL", exact=True).fill("ftp://example.com/")
    await page.keyboard.press("Enter")
    submitted = page.get_by_label("Pages asked for in this tab")
    await expect(submitted).to_contain_text("only absolute http:// and https:// URLs are taken")
    await page.get_by_role("button", name="Put it back").click()
    await expect(page.get_by_label("URL", exact=True)).to_have_value("ftp://example.com/")


@pytest.fixture(scope="module")
def key(shared_service: Service) -> str:
    made = pagemeta(shared_service, "keys", "create", "somebody", "--scope", "read")
    return made.stdout.strip()


async def test_a_key_shows_what_it_may(
    visit: Open, shared_service: Service, api: Api, key: str
) -> None:
    assert shared_service.post(api, URL).status_code == 202
    guarded = shared_service.api(API_AUTH="required").start()
    page = (await visit("/")).page
    await page.goto(f"{guarded.url}/inventory")
    await page.get_by_label("API key").fill(key)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name=URL, exact=True)).to_be_visible()
    await expect(page.get_by_text("this call needs a key with the scope metrics")).to_be_visible()
    await page.get_by_label("URL", exact=True).fill(URL)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("this call needs a key with the scope write")).to_be_visible()


# --- Ways through the page ---


async def test_a_page_has_an_address_and_the_back_button_returns_to_the_list(visit: Open) -> None:
    fake = FakeInventory([completed(f"{URL}{number}", f"Page {number}") for number in range(90)])
    fake.page_size = 50
    page = (await opened(visit, fake, "#q=page")).page
    await expect(page.get_by_label("Words of title or host")).to_have_value("page")
    await page.get_by_role("button", name="More pages").click()
    await expect(page.get_by_text("90 pages.")).to_be_visible()
    await page.get_by_role("link", name="Page 70", exact=True).click()
    await expect(page.get_by_role("heading", name="Page 70")).to_be_visible()
    assert page.url.endswith(at(f"{URL}70"))
    await page.go_back()
    await expect(page.get_by_role("link", name="Page 70", exact=True)).to_be_in_viewport()
    await expect(page.get_by_role("link", name="Page 70", exact=True)).to_be_focused()
    assert page.url.endswith("#q=page")


async def test_a_list_that_refreshes_itself_keeps_focus_and_place(visit: Open) -> None:
    pages = [completed(f"{URL}{number}", f"Page {number}") for number in range(50)]
    fake = FakeInventory([*pages, in_progress(f"{URL}new")])
    page = (await opened(visit, fake)).page
    focused = page.get_by_role("link", name="Page 40", exact=True)
    await focused.focus()
    before = await focused.bounding_box()
    fake.pages = [completed(f"{URL}newer", "Newer"), *pages, completed(f"{URL}new", "Arrived")]
    await expect(page.get_by_role("link", name="Newer", exact=True)).to_be_attached()
    await expect(page.get_by_role("link", name="Arrived", exact=True)).to_be_attached()
    await expect(focused).to_be_focused()
    after = await focused.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) < 5


async def test_nothing_is_asked_again_while_nothing_is_on_the_way(visit: Open) -> None:
    fake = FakeInventory([completed(URL, "Page")])
    page = (await opened(visit, fake)).page
    await expect(page.get_by_text("1 page.")).to_be_visible()
    await expect(page.get_by_text("requests answered a second")).to_be_visible()  # after 5 s
    assert fake.calls.count("GET /metadata/pages") == 1


async def test_a_key_is_asked_for_and_kept_for_the_tab_until_it_is_to_be_forgotten(
    visit: Open,
) -> None:
    fake = FakeInventory([completed(URL, "Page")], key=KEY)
    visited = await opened(visit, fake)
    page, field = visited.page, visited.page.get_by_label("API key")
    for key in ("pm_wrong", KEY):
        await expect(field).to_be_focused()
        await field.fill(key)
        await page.keyboard.press("Enter")
        if key != KEY:
            await expect(page.get_by_text("The key was refused")).to_be_visible()
    await expect(page.get_by_role("link", name="Page", exact=True)).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("link", name="Page", exact=True)).to_be_visible()
    await page.get_by_role("link", name="Page", exact=True).click()
    await expect(page.get_by_text('-H "Authorization: Bearer $PAGEMETA_KEY"')).to_be_visible()
    assert await page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"
    await page.get_by_role("button", name="Forget the key").click()
    await expect(field).to_be_focused()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_a_scope_that_a_key_lacks_is_named(visit: Open) -> None:
    fake = FakeInventory([completed(URL, "Page")], scopes=frozenset({Scope.READ}))
    page = (await opened(visit, fake)).page
    await expect(page.get_by_text("key with the scope metrics")).to_be_visible()
    await page.get_by_role("link", name="Page", exact=True).click()
    await page.get_by_role("button", name="Delete …").click()
    await page.get_by_role("button", name="Delete it").click()
    await expect(page.get_by_role("alert")).to_have_text(
        f"{URL} is not deleted: this call needs a key with the scope delete"
    )


# --- What has changed meanwhile ---

OTHER = f"{URL}other"


@dataclass
class Held:
    """Answers calls of one method once a test lets it."""

    method: str
    status: int
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    let: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, route: Route, request: Request) -> None:
        if request.method != self.method:
            await route.fallback()
            return
        self.asked.set()
        await self.let.wait()
        await route.fulfill(status=self.status, json={"detail": "Come back later."})


async def test_what_became_of_a_fetch_is_not_told_on_another_page(visit: Open) -> None:
    fake = FakeInventory([completed(URL, "Page"), completed(OTHER, "Other")])
    page = (await opened(visit, fake, at(URL))).page
    for held in (Held("POST", 200), Held("POST", 503)):
        await page.route("**/metadata", held.answer)
        await page.evaluate("it => { location.hash = it }", at(URL))
        await expect(page.get_by_role("heading", name="Page", exact=True)).to_be_visible()
        pressed = await page.get_by_role("button", name="Fetch anew").element_handle()
        await page.get_by_role("button", name="Fetch anew").click()
        await held.asked.wait()
        await page.evaluate("it => { location.hash = it }", at(OTHER))
        await expect(page.get_by_role("heading", name="Other", exact=True)).to_be_visible()
        held.let.set()
        await page.wait_for_function("it => it.ariaBusy === 'false'", arg=pressed)
        await expect(page.locator("#news")).to_be_empty(timeout=1)
        await expect(page.get_by_role("alert")).to_be_hidden(timeout=1)


async def test_a_page_that_somebody_else_deletes_is_no_longer_asked_for(visit: Open) -> None:
    fake = FakeInventory([in_progress(URL)])

    async def prepare(page: Page) -> None:
        await page.clock.install()
        await fake.serve(page)

    page = (await visit(f"/inventory{at(URL)}", prepare)).page
    await expect(page.get_by_text("being fetched", exact=True)).to_be_visible()
    fake.pages.clear()
    await page.clock.run_for(4_000)
    await expect(page.get_by_text("This page is no longer known.")).to_be_visible()
    calls = fake.calls.count("GET /metadata")
    for _ in range(5):
        await page.clock.run_for(4_000)
    assert fake.calls.count("GET /metadata") == calls
    await page.get_by_role("link", name="See those that are").click()
    await expect(page.get_by_text("The inventory has no pages yet.")).to_be_visible()


async def test_a_request_that_takes_long_is_watched_ever_more_slowly_and_then_left_to_the_list(
    visit: Open,
) -> None:
    fake = FakeInventory([in_progress(URL)])
    request = {"url": URL, "request_id": "r1", "status": "QUEUED"}
    polls: list[str] = []

    async def answer(route: Route, asked: Request) -> None:
        if asked.method == "GET":
            polls.append(asked.url)
        await route.fulfill(status=202 if asked.method == "POST" else 200, json=request)

    async def prepare(page: Page) -> None:
        await page.clock.install()
        await fake.serve(page)
        await page.route("**/metadata", answer)
        await page.route("**/metadata/requests/r1", answer)

    page = (await visit("/inventory", prepare)).page
    await page.get_by_label("URL", exact=True).fill(URL)
    await page.keyboard.press("Enter")
    given_up = page.get_by_text("waiting. The list shows how it goes on.")
    for _ in range(200):
        await page.clock.run_for(10_000)
        if await given_up.is_visible():
            break
    await expect(given_up).to_be_visible(timeout=1)
    assert 10 < len(polls) < 25


async def test_rows_that_fit_other_filters_go_even_if_the_new_ones_cannot_be_read(
    visit: Open,
) -> None:
    page = (await opened(visit, FakeInventory([completed(URL, "Page")]))).page
    await expect(page.get_by_role("link", name="Page", exact=True)).to_be_visible()
    held = Held("GET", 503)
    await page.route("**/metadata/pages?*", held.answer)
    await page.get_by_role("button", name="Read the list again").click()
    await held.asked.wait()
    await page.get_by_role("button", name="Read the list again").click()
    async with page.expect_request(lambda request: "q=other" in request.url):
        await page.get_by_label("Words of title or host").fill("other")
    held.let.set()
    await expect(page.get_by_text("Come back later.")).to_be_visible()
    await expect(page.get_by_role("link", name="Page", exact=True)).to_be_hidden(timeout=1)


async def test_further_pages_arrive_though_the_list_was_to_be_read_again(visit: Open) -> None:
    fake = FakeInventory([completed(f"{URL}{number}", f"Page {number}") for number in range(60)])
    fake.page_size = 50
    page = (await opened(visit, fake)).page
    await expect(page.get_by_text("50 pages, and there are more.")).to_be_visible()
    held = Held("GET", 503)
    await page.route("**/metadata/pages?*", held.answer, times=1)
    await page.get_by_role("button", name="Read the list again").click()
    await held.asked.wait()
    await page.get_by_role("button", name="Read the list again").click()
    await page.get_by_role("button", name="More pages").click()
    held.let.set()
    await expect(page.get_by_role("link", name="Page 59", exact=True)).to_be_visible()


async def test_the_back_button_takes_the_question_whether_to_delete_along(visit: Open) -> None:
    fake = FakeInventory([completed(URL, "Page")])
    page = (await opened(visit, fake)).page
    await page.get_by_role("link", name="Page", exact=True).click()
    await page.get_by_role("button", name="Delete …").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(page.get_by_role("link", name="Page", exact=True)).to_be_focused()
    assert "DELETE /metadata" not in fake.calls


async def test_a_page_stays_open_while_another_one_is_deleted(visit: Open) -> None:
    fake = FakeInventory([completed(URL, "Page"), completed(OTHER, "Other")])
    page = (await opened(visit, fake, at(URL))).page
    held = Held("DELETE", 200)
    await page.route("**/metadata?*", held.answer)
    await page.get_by_role("button", name="Delete …").click()
    await page.get_by_role("button", name="Delete it").click()
    await held.asked.wait()
    await page.evaluate("it => { location.hash = it }", at(OTHER))
    await expect(page.get_by_role("heading", name="Other", exact=True)).to_be_visible()
    held.let.set()
    await expect(page.get_by_text(f"Deleted {URL}.", exact=True)).to_be_visible()
    assert page.url.endswith(at(OTHER))


@pytest.mark.parametrize("width", [1280, 360], ids=["table", "phone"])
async def test_the_list_says_when_each_page_was_checked(visit: Open, width: int) -> None:
    fake = FakeInventory([completed(URL, "Page"), failed(f"{URL}no"), in_progress(f"{URL}new")])
    page = (await opened(visit, fake)).page
    await page.set_viewport_size({"width": width, "height": 740})
    await expect(page.get_by_role("columnheader", name="Checked")).to_be_attached()
    told = page.locator("#list tr").get_by_text(re.compile(r"^(checked|tried) .*ago$|^not checked"))
    await expect(told).to_have_count(3)
    for one in await told.all():
        await expect(one).to_be_visible()


async def test_a_host_is_sent_as_it_was_entered(visit: Open) -> None:
    page = (await opened(visit, FakeInventory([completed(URL, "Page")]))).page
    async with page.expect_request(lambda request: "host=" in request.url) as asked:
        await page.get_by_label("Host", exact=True).fill("Bücher.example:8080")
    assert "host=B%C3%BCcher.example%3A8080" in (await asked.value).url


# --- What strangers wrote ---

ATTACK = (
    "\u202etxt.exe\u202c <script>window.intruded = 1</script>"
    '"\'><img src=https://evil.example/x onerror="window.intruded = 2">'
    "<svg onload=window.intruded=3> \x00\x1b[31m e\u0301\u0301 "
)
READABLE = (
    "\u2039U+202E\u203atxt.exe\u2039U+202C\u203a <script>",
    "<svg onload=window.intruded=3> \u2039U+0000\u203a\u2039U+001B\u203a[31m",
)
"""Parts of it as they are to be shown."""

LONG = ATTACK + "W" * 20_000
ENDLESS = ATTACK + "W" * 5_000_000


def hostile(text: str) -> Record:
    """Return a record with this text in every slot that takes text, and with bad URLs."""
    record: Record = _with_text(completed(URL, "Page"), text)
    bad = "javascript:window.intruded=4"
    record["metadata"]["final_url"] = record["metadata"]["document"]["canonical_url"] = bad
    record["metadata"]["document"]["image"]["url"] = "data:text/html,<script>alert(1)</script>"
    refresh = {"status": "FAILED_PERMANENT", "request_id": None, "requested_at": None}
    error = {"kind": text, "message": text}
    if text == LONG:
        record["metadata"]["document"]["title"] = error["message"] = ENDLESS
    return record | {"refresh": {**refresh, "attempts": 5, "error": error}}


def _with_text(value: Any, text: str) -> Any:
    kept = {"status", "url", "created_at", "updated_at", "checked_at"}
    if isinstance(value, dict):
        return {name: it if name in kept else _with_text(it, text) for name, it in value.items()}
    if isinstance(value, list):
        return [_with_text(it, text) for it in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("text", [ATTACK, LONG], ids=["markup", "5 MB"])
async def test_what_strangers_wrote_runs_nowhere_and_stays_readable(visit: Open, text: str) -> None:
    other = failed("https://example.com/\u202e") | {"error": {"kind": text, "message": text}}
    fake = FakeInventory([hostile(text), other], source=ENDLESS if text == LONG else text)
    visited = await opened(visit, fake)
    page = visited.page
    await page.set_viewport_size({"width": 360, "height": 740})
    await expect(page.get_by_role("link", name=READABLE[0])).to_be_visible()
    await assert_harmless(visited)
    await page.goto(f"{visited.origin}/inventory{at(URL)}")
    await page.get_by_role("button", name="Show the source").click()
    source = page.get_by_label("Source of the page")
    await expect(source).to_contain_text(READABLE[1])
    assert len(await source.inner_text()) < 200_200
    if text == LONG:
        await expect(page.get_by_text("The first 200,000 characters")).to_be_visible()
        await page.get_by_role("button", name="More (").first.click()
    await assert_harmless(visited)


EVERYTHING = """() => document.title + document.querySelector("main").innerText
  + [...document.querySelectorAll("main *")].flatMap(it => [it.title, it.ariaLabel]).join("")"""


async def assert_harmless(visited: Visit) -> None:
    page = visited.page
    assert await page.evaluate("window.intruded") is None
    assert not re.search(r"[\x00-\x08\x1b\u202c\u202e]", await page.evaluate(EVERYTHING))
    assert await page.locator("main :is(script, img, iframe, style, [style])").count() == 0
    targets = await page.locator("main a").evaluate_all("all => all.map(a => a.protocol)")
    assert set(targets) <= {"http:", "https:"}
    assert (visited.elsewhere, visited.errors) == ([], [])
    await fits(page)


async def test_an_image_is_loaded_only_after_a_click_and_without_a_referrer(visit: Open) -> None:
    fake = FakeInventory([completed(URL, "Page")])
    visited = await opened(visit, fake, at(URL))
    page = visited.page
    load = page.get_by_role("button", name="Load it from example.com")
    await expect(load).to_be_visible()
    assert visited.elsewhere == []
    async with page.expect_request("https://example.com/large.jpg") as asked:
        await load.click()
    assert "referer" not in (await asked.value).headers
    await expect(page.get_by_text("The image could not be loaded.")).to_be_visible()


PARSE = """() => {
  try {
    document.body.innerHTML = "<img src=x onerror=window.intruded=1>";
  } catch (error) {
    return error.name;
  }
}"""


RUN = """() => new Promise(resolve => {
  document.addEventListener("securitypolicyviolation", it => resolve(it.effectiveDirective));
  const script = document.createElement("script");
  script.append("window.intruded = true");
  document.body.append(script);
})"""


async def test_text_cannot_become_markup_even_by_mistake(visit: Open) -> None:
    page = (await opened(visit, FakeInventory())).page
    assert await page.evaluate(PARSE) == "TypeError"
    assert await page.evaluate(RUN) in {"require-trusted-types-for", "script-src-elem"}
    assert await page.evaluate("window.intruded") is None


# --- For everybody ---

CONTROLS = {"link", "button", "textbox", "searchbox", "combobox", "table", "region", "search"}
"""What has to have a name for whoever hears the page instead of seeing it."""


async def told_of(page: Page) -> list[tuple[str, str, int]]:
    """Return role, name and level (0 if none) of all that Chromium tells a screen reader."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    told = []
    for node in tree["nodes"]:
        levels = [
            it["value"]["value"] for it in node.get("properties", []) if it["name"] == "level"
        ]
        name = node.get("name", {}).get("value", "")
        if not node["ignored"]:
            told.append((node["role"]["value"], name.strip(), levels[0] if levels else 0))
    return told


async def fits(page: Page) -> None:
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]  # type: ignore[index]  # every page here has one


@pytest.mark.parametrize("place", ["", at(URL)], ids=["list", "page"])
async def test_controls_have_names_and_headings_are_in_order_and_a_phone_is_wide_enough(
    visit: Open, place: str
) -> None:
    fake = FakeInventory([completed(URL, "Page"), failed(f"{URL}no"), in_progress(f"{URL}new")])
    page = (await opened(visit, fake, place)).page
    await page.set_viewport_size({"width": 360, "height": 740})
    await expect(page.locator("time:visible").first).to_be_visible()
    told = await told_of(page)
    roles = {role for role, _, _ in told}
    assert roles >= {"main", "navigation", "link", "button", "heading"}
    assert [it for it in told if it[0] in CONTROLS and not it[1]] == []
    levels = [level for role, _, level in told if role == "heading"]
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    await expect(page.get_by_role("main")).to_be_visible()
    await fits(page)


SHADES = """element => [getComputedStyle(document.body).backgroundColor,
  getComputedStyle(element).color].map(it => it.match(/\\d+/g).slice(0, 3).map(Number))"""


def contrast(one: list[int], other: list[int]) -> float:
    """The contrast of two colours by WCAG 2.2."""

    def luminance(colour: list[int]) -> float:
        parts = [part / 255 for part in colour]
        linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


async def test_light_and_dark_follow_the_browser_and_are_readable(visit: Open) -> None:
    page = (await opened(visit, FakeInventory([completed(URL, "Page")]))).page
    link = page.get_by_role("link", name="Page", exact=True)
    await expect(link).to_be_visible()
    grounds = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        for element in (link, page.locator("#list small").first, page.locator("h1")):
            ground, ink = await element.evaluate(SHADES)
            assert contrast(ground, ink) >= 4.5
        grounds.append(sum(ground))
    assert grounds[0] > grounds[1]
