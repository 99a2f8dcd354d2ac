"""What a person sees of the contracts. The browser reaches this machine only."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from playwright.async_api import Error, Page, expect

from dev.specs import FOLDER
from tests.browser.conftest import Open, Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOCUMENTS: dict[str, Any] = {
    "/asyncapi": yaml.safe_load((FOLDER / "api.yaml").read_text()),
    "/asyncapi/worker": yaml.safe_load((FOLDER / "worker.yaml").read_text()),
}
PAGES = ["/", "/docs", "/redoc", *DOCUMENTS]
FIELDS = ["url", "request_id", "requested_at", "attempt"]


async def is_visible(page: Page, text: str | re.Pattern[str]) -> None:
    await expect(page.get_by_text(text).first).to_be_visible()


def exactly(text: str) -> re.Pattern[str]:
    return re.compile(rf"^\s*{re.escape(text)}\s*$")


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_the_operations_of_a_document_are_visible(visit: Open, path: str) -> None:
    page = (await visit(path)).page
    document = DOCUMENTS[path]
    await is_visible(page, document["info"]["title"])
    for name, operation in document["operations"].items():
        await is_visible(page, exactly(name))
        await is_visible(page, exactly(operation["title"]))
        await is_visible(page, operation["summary"])


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_the_queues_and_their_arguments_are_visible(visit: Open, path: str) -> None:
    page = (await visit(path)).page
    for channel in DOCUMENTS[path]["channels"].values():
        await is_visible(page, exactly(channel["address"]))
        for name, value in channel["bindings"]["amqp"].get("x-queue-arguments", {}).items():
            await is_visible(page, exactly(f"channel.x-queue-arguments.{name}{value}"))


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_the_fields_of_the_payload_are_visible(visit: Open, path: str) -> None:
    page = (await visit(path)).page
    properties = DOCUMENTS[path]["components"]["schemas"]["MetadataRequested"]["properties"]
    assert list(properties) == FIELDS
    for name, described in properties.items():
        await is_visible(page, exactly(name))
        await is_visible(page, described["description"].split("`")[0].strip())


async def test_the_properties_and_headers_of_a_message_are_visible(visit: Open) -> None:
    page = (await visit("/asyncapi/worker")).page
    for name in ("message_id", "correlation_id", "type", "content_type", "x-deferrals", "x-death"):
        await is_visible(page, exactly(name))


async def test_each_document_links_to_the_other(visit: Open) -> None:
    page = (await visit("/asyncapi")).page
    await page.get_by_role("link", name="Messages: worker").click()
    await is_visible(page, exactly("collectMetadata"))
    await page.get_by_role("link", name="Messages: API").click()
    await is_visible(page, exactly("requestMetadata"))


CALLS = {
    "Ask for a page": ["202", "400", "413", "500", "503", "Location", "Retry-After"],
    "Read a page": [
        "An absolute http or https URL",
        "200",
        "202",
        "400",
        "500",
        "503",
        "Retry-After",
    ],
}


@pytest.mark.parametrize("call", CALLS)
async def test_swagger_shows_a_call_and_its_answers(visit: Open, call: str) -> None:
    page = (await visit("/docs")).page
    await page.get_by_role("button", name=call).click()
    for text in CALLS[call]:
        await is_visible(page, re.compile(rf"\b{text}\b"))


async def test_redoc_shows_the_calls_and_their_answers(visit: Open) -> None:
    page = (await visit("/redoc")).page
    for call in CALLS:
        await expect(page.get_by_role("heading", name=call)).to_be_visible()
    for text in ("Page URL", "The request is queued", "No result yet"):
        await is_visible(page, text)


async def test_the_front_page_links_to_all_other_pages(visit: Open) -> None:
    page = (await visit("/")).page
    await expect(page.get_by_role("heading", name="Page metadata")).to_be_visible()
    links = await page.locator("main a").evaluate_all("links => links.map(it => it.href)")
    paths = {urlsplit(link).path for link in links}
    assert {"/inventory", *PAGES[1:]} <= paths
    assert {"/openapi.json", "/asyncapi.yaml", "/asyncapi.json"} <= paths
    for link in links:
        answer = await page.request.get(link)
        assert answer.ok or link.endswith("/health/ready")


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_loads_nothing_from_elsewhere_and_causes_no_error(
    visit: Open, path: str
) -> None:
    visited = await visit(path)
    await visited.page.wait_for_load_state("networkidle")
    assert (visited.elsewhere, visited.errors) == ([], [])


INTRUDE = """async kind => {
  const refused = new Promise(resolve => document.addEventListener(
    "securitypolicyviolation", event => resolve(event.effectiveDirective), {once: true}));
  const element = document.createElement(kind === "inline" ? "script" : kind);
  if (kind === "inline") {
    element.textContent = "window.intruded = true";
  } else {
    element.src = "https://cdn.example/x";
  }
  document.body.append(element);
  return await Promise.race([refused, new Promise(resolve => setTimeout(resolve, 2000, null))]);
}"""


@pytest.mark.parametrize("path", PAGES)
async def test_the_policy_refuses_scripts_and_images_from_elsewhere_and_inline_scripts(
    visit: Open, path: str
) -> None:
    page = (await visit(path)).page
    refused = {kind: await page.evaluate(INTRUDE, kind) for kind in ("script", "inline", "img")}
    assert refused == {"script": "script-src-elem", "inline": "script-src-elem", "img": "img-src"}
    assert await page.evaluate("window.intruded") is None


@pytest.mark.parametrize("address", ["http://example.com/", "http://93.184.215.14/"])
async def test_the_browser_of_these_tests_reaches_nothing_else(visit: Open, address: str) -> None:
    visited: Visit = await visit("/")
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        await visited.page.goto(address)
