"""The pages of the contracts, and the documents that they show."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI

from app.contract.documents import Documents

PAGES = ["/", "/inventory", "/docs", "/redoc", "/asyncapi", "/asyncapi/worker"]


@pytest.fixture
async def client(default_api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(default_api)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


@pytest.fixture
def documents(default_api: FastAPI) -> Documents:
    documents: Documents = default_api.state.documents
    return documents


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_may_load_nothing_from_elsewhere_and_run_no_script_of_its_own(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    policy = dict(
        directive.split(" ", 1)
        for directive in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == "'self'"
    may_show_images = {"https:", "http:"} if path == "/inventory" else set()
    assert set(policy.pop("img-src").split()) <= {"'self'", "data:"} | may_show_images
    sources = {source for value in policy.values() for source in value.split()}
    assert sources <= {"'none'", "'self'", "'unsafe-inline'", "'script'", "data:", "blob:"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r'(?:href|src|url)="[^"]*//', answer.text)


async def test_the_inventory_has_no_inline_script_or_style_and_no_markup_from_text(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/inventory")
    policy = answer.headers["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert not re.search(r"style=|\bon\w+=|<style|<script(?! type=\"module\" src=)", answer.text)


async def test_browsers_ask_whether_a_script_has_changed(client: httpx.AsyncClient) -> None:
    script = await client.get("/static/inventory/main.js")
    assert script.headers["cache-control"] == "no-cache"
    known = {"If-None-Match": script.headers["etag"]}
    assert (await client.get("/static/inventory/main.js", headers=known)).status_code == 304


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_links_to_all_others(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    here = httpx.URL("http://testserver").join(path)
    links = {here.join(link.split('"')[0]).path for link in answer.text.split('href="')[1:]}
    assert set(PAGES) <= links


@pytest.mark.parametrize(
    ("path", "process"), [("/asyncapi", "api"), ("/asyncapi/worker", "worker")]
)
async def test_each_document_is_served_as_yaml_and_as_json(
    client: httpx.AsyncClient, documents: Documents, path: str, process: str
) -> None:
    expected: Any = getattr(documents, process)
    as_yaml = await client.get(f"{path}.yaml")
    as_json = await client.get(f"{path}.json")
    assert as_yaml.headers["content-type"].startswith("application/yaml")
    assert as_json.headers["content-type"] == "application/json"
    assert yaml.safe_load(as_yaml.text) == json.loads(as_json.text) == expected


async def test_redoc_comes_without_the_picture_it_would_get_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    script = await client.get("/redoc/redoc.js")
    assert len(script.content) > 100_000
    assert "cdn.redoc.ly" not in script.text


async def test_pages_work_below_a_prefix(default_api: FastAPI) -> None:
    transport = httpx.ASGITransport(default_api, root_path="/inventory")
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for path in PAGES:
            page = await client.get(f"/inventory{path}")
            assert page.status_code == 200
            assert 'href="/' not in page.text
            assert 'src="/' not in page.text


@pytest.mark.parametrize("path", [*PAGES, "/asyncapi/try", "/asyncapi.yaml"])
async def test_nothing_can_be_sent_to_a_page(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.post(path, json={})).status_code in {404, 405}
