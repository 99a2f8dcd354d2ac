"""Answers what `/inventory` asks of the API, from records that a test puts there."""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, Request, Route

from app.api import examples
from app.api.problems import MEDIA_TYPE, NO_VALID_KEY, SCOPE_MISSING, UNKNOWN_PAGE, ProblemKind
from app.keys import Scope

Record = dict[str, Any]

METRICS = """
page_metadata_queue_messages{queue="metadata.requests"} 3.0
page_metadata_http_request_seconds_count{method="GET",route="/metadata",status="200"} 7.0
page_metadata_publish_seconds_count{outcome="success"} 5.0
"""


def completed(url: str, title: str | None = None) -> Record:
    """Return the answer about a page that was fetched."""
    example = examples.ENDED["The page as its server sent it"].model_dump(mode="json")
    record: Record = deepcopy(example) | {"url": url}
    record["metadata"]["document"]["title"] = title
    return record


def in_progress(url: str) -> Record:
    """Return the answer about a page that is being fetched."""
    return examples.PENDING["Being fetched"].model_dump(mode="json") | {"url": url}


def failed(url: str) -> Record:
    """Return the answer about a page that cannot be fetched."""
    example = examples.ENDED["A page that cannot be fetched"].model_dump(mode="json")
    return example | {"url": url}


@dataclass
class FakeInventory:
    """The API, seen from a browser. `key` is the one key that it accepts, if it asks for one."""

    pages: list[Record] = field(default_factory=list)
    source: str = ""
    key: str | None = None
    scopes: frozenset[Scope] = frozenset(Scope)
    page_size: int = 100
    calls: list[str] = field(default_factory=list)

    async def serve(self, page: Page) -> None:
        """Answer the calls of a page from now on."""
        await page.route(
            lambda url: urlsplit(url).path.startswith(("/metadata", "/metrics")), self._answer
        )

    async def _answer(self, route: Route, request: Request) -> None:
        path, query = urlsplit(request.url).path, parse_qs(urlsplit(request.url).query)
        self.calls.append(f"{request.method} {path}")
        needed = Scope.METRICS if path == "/metrics" else Scope.READ
        needed = {"DELETE": Scope.DELETE, "POST": Scope.WRITE}.get(request.method, needed)
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.key is not None and sent != self.key:
            await _refuse(route, NO_VALID_KEY, "send a key: Authorization: Bearer pm_…")
        elif needed not in self.scopes:
            await _refuse(route, SCOPE_MISSING, f"this call needs a key with the scope {needed}")
        elif path == "/metrics":
            await route.fulfill(body=METRICS.lstrip())
        elif path == "/metadata/source":
            await route.fulfill(body=self.source, content_type="text/plain; charset=utf-8")
        elif path == "/metadata/pages":
            await route.fulfill(json=self._some(int(query.get("cursor", ["0"])[0])))
        else:
            await self._answer_about(route, query["url"][0])

    async def _answer_about(self, route: Route, url: str) -> None:
        found = [page for page in self.pages if page["url"] == url]
        if found:
            await route.fulfill(json=found[0])
        else:
            await _refuse(route, UNKNOWN_PAGE, "there is no record of the page")

    def _some(self, start: int) -> Record:
        end = start + self.page_size
        is_last = end >= len(self.pages)
        return {"items": self.pages[start:end], "next": None if is_last else str(end)}


async def _refuse(route: Route, kind: ProblemKind, detail: str) -> None:
    problem = json.loads(kind.problem(detail).model_dump_json(exclude_none=True))
    await route.fulfill(status=kind.status, json=problem, content_type=MEDIA_TYPE)
