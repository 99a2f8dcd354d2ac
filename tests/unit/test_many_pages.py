"""The calls about many pages at once, in this process: lists and batches."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from dirty_equals import IsPartialDict, IsStr, IsUUID
from fastapi import FastAPI

from app.api.answers import Room
from app.api.application import create_app
from app.api.gate import Gate
from app.api.limits import AddressLimit
from app.api.middleware import MAX_BATCH_BYTES
from app.api.problems import BATCHES_BUSY
from app.errors import NotIndexed, PublishFailed, PublishFault, StoreUnavailable
from app.models import (
    LISTED_STATUSES,
    Delivery,
    ErrorKind,
    PageError,
    PageFilter,
    PageList,
    PagePosition,
    PageRecord,
    PageRequest,
    PageStatus,
)
from app.runtime.settings import Settings
from app.services import Inventory
from app.store.listing import PageLists
from tests.fakes import NOW, FakePages, FakePublisher, a_page, a_request
from tests.unit.recorded import Log

POSITION = PagePosition(NOW + timedelta(milliseconds=7), "0123456789abcdef01234567")


class FakeLists:
    """Answers every call with the same list, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[PageFilter, int, PagePosition | None]] = []
        self.answer = PageList((), None)
        self.failure: Exception | None = None

    async def newest(
        self, wanted: PageFilter, limit: int, after: PagePosition | None = None
    ) -> PageList:
        self.asked.append((wanted, limit, after))
        if self.failure:
            raise self.failure
        return self.answer


class CountingPublisher(FakePublisher):
    """Notes how many publishes were under way at once; refuses URLs with `full` in them."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most = 0

    async def publish(self, request: PageRequest) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        if "full" in request.url:
            raise PublishFailed(PublishFault.QUEUE_REJECTED)
        if "bug" in request.url:
            raise RuntimeError("a bug")
        await super().publish(request)


@pytest.fixture
def lists() -> FakeLists:
    return FakeLists()


@pytest.fixture
def pages() -> FakePages:
    return FakePages()


@pytest.fixture
def publisher() -> CountingPublisher:
    return CountingPublisher()


@pytest.fixture
def app(
    settings: Settings, lists: FakeLists, pages: FakePages, publisher: CountingPublisher
) -> FastAPI:
    app = create_app(settings)
    app.state.lists = lists
    app.state.inventory = Inventory(publisher=publisher, pages=pages)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


async def listed(client: httpx.AsyncClient, **query: Any) -> httpx.Response:
    return await client.get("/metadata/pages", params=query)


async def batch(client: httpx.AsyncClient, *urls: Any, **more: Any) -> httpx.Response:
    return await client.post("/metadata/batch", json={"urls": urls, **more})


def a_record(status: PageStatus, **changes: Any) -> PageRecord:
    values: dict[str, Any] = {
        "url": "https://example.com/",
        "status": status,
        "metadata": None,
        "error": None,
        "attempts": 1,
        "request_id": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return PageRecord(**values | changes)


# --- Lists ---


async def test_filters_reach_the_database_in_the_words_of_records(
    client: httpx.AsyncClient, lists: FakeLists
) -> None:
    answer = await listed(
        client,
        status=["FAILED_PERMANENT", "QUEUED"],
        host="BÜCHER.example:8080",
        updated_since="2026-01-01T01:00:00+01:00",
        q="tea shop",
        limit=7,
    )
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    wanted = PageFilter(
        frozenset({PageStatus.FAILED_PERMANENT, PageStatus.QUEUED}),
        host="xn--bcher-kva.example",
        updated_since=NOW,
        text="tea shop",
    )
    assert lists.asked == [(wanted, 7, None)]


async def test_without_filters_and_with_empty_ones_all_known_pages_are_listed(
    client: httpx.AsyncClient, lists: FakeLists
) -> None:
    empty = dict.fromkeys(("status", "host", "updated_since", "q", "cursor"), "")
    for query in ({}, empty):
        assert (await listed(client, **query)).json() == {"items": [], "next": None}
    assert lists.asked == 2 * [(PageFilter(LISTED_STATUSES), 50, None)]


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("Example.com", "example.com"),
        ("http://example.com:8080/path", "example.com"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("two words", "two words"),  # so nothing is found
    ],
)
async def test_a_host_may_be_written_as_in_a_url(
    client: httpx.AsyncClient, lists: FakeLists, host: str, found: str
) -> None:
    assert (await listed(client, host=host)).status_code == 200
    assert lists.asked[0][0].host == found


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ("9999-12-31T23:59:59-23:59", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:59", datetime.min.replace(tzinfo=UTC)),
    ],
)
async def test_a_time_that_is_none_in_utc_is_the_nearest_one(
    client: httpx.AsyncClient, lists: FakeLists, since: str, found: datetime
) -> None:
    assert (await listed(client, updated_since=since)).status_code == 200
    assert lists.asked[0][0].updated_since == found


async def test_next_is_the_cursor_of_the_next_call(
    client: httpx.AsyncClient, lists: FakeLists
) -> None:
    lists.answer = PageList((), POSITION)
    cursor = (await listed(client)).json()["next"]
    await listed(client, cursor=cursor)
    assert lists.asked[-1][2] == POSITION


async def test_each_entry_has_what_a_read_of_its_page_has_less_what_is_long(
    client: httpx.AsyncClient, lists: FakeLists
) -> None:
    error = PageError(ErrorKind.DNS, "no such host")
    selected = {"status_code": 200, "document": {"title": "Tea"}}
    records = (
        a_record(PageStatus.COMPLETED, selected=selected, checked_at=NOW),
        a_record(PageStatus.FAILED_PERMANENT, error=error),
        a_record(PageStatus.FAILED_RETRYABLE, error=error),
        a_record(PageStatus.QUEUED),
    )
    lists.answer = PageList(records, None)
    completed, failed, retryable, queued = (await listed(client)).json()["items"]
    assert completed == IsPartialDict(metadata=selected, checked_at="2026-01-01T00:00:00Z")
    told = {"kind": "dns", "message": "no such host"}
    assert failed == IsPartialDict(status="FAILED_PERMANENT", error=told, metadata=None)
    assert retryable == IsPartialDict(status="FAILED_RETRYABLE", error=told)
    assert "metadata" not in retryable
    assert queued == IsPartialDict(status="QUEUED", error=None, url="https://example.com/")


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ({"status": "DELETED"}, "query.status.0", "be 'QUEUED', 'IN_PROGRESS', 'COMPLETED', "),
        ({"updated_since": "yesterday"}, "query.updated_since", "2026-01-31T12:00:00Z"),
        ({"updated_since": "2026-01-01T00:00:00"}, "query.updated_since", "2026-01-31T12:00:00Z"),
        ({"updated_since": "1767225600"}, "query.updated_since", "2026-01-31T12:00:00Z"),
        ({"limit": 0}, "query.limit", "greater than or equal to 1"),
        ({"limit": 101}, "query.limit", "less than or equal to 100"),
        ({"limit": "many"}, "query.limit", "send a whole number"),
        ({"q": "x" * 201}, "query.q", "at most 200 characters"),
        ({"host": "x" * 301}, "query.host", "at most 300 characters"),
        *(
            ({"cursor": text}, "query.cursor", "send the `next` of an answer")
            for text in ("x", "1-2", "9" * 15 + "-" + "0" * 24, "1-" + "g" * 24)
        ),
    ],
)
async def test_what_cannot_be_listed_is_told(
    client: httpx.AsyncClient, lists: FakeLists, query: dict[str, Any], field: str, says: str
) -> None:
    answer = await listed(client, **query)
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert (error["field"], says in error["message"]) == (field, True)
    assert lists.asked == []


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (StoreUnavailable("away"), "database-unavailable"),
        (NotIndexed("run `pagemeta migrate`"), "not-indexed"),
    ],
)
async def test_an_inventory_that_cannot_be_listed_now_is_told(
    client: httpx.AsyncClient, lists: FakeLists, failure: Exception, kind: str
) -> None:
    lists.failure = failure
    answer = await listed(client)
    assert answer.status_code == 503
    assert answer.json()["type"] == f"urn:page-metadata:problem:{kind}"
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("text", ["!!!", "\x00", " … "])
async def test_marks_alone_are_found_nowhere(
    client: httpx.AsyncClient, app: FastAPI, text: str
) -> None:
    app.state.lists = PageLists(None, patience_seconds=1)  # type: ignore[arg-type]  # never asked
    assert (await listed(client, q=text)).json() == {"items": [], "next": None}


# --- Batches ---


async def test_each_url_of_a_batch_has_its_result_in_order(
    client: httpx.AsyncClient, publisher: CountingPublisher
) -> None:
    answer = await batch(
        client,
        "https://example.com/a",
        "nothing",
        "HTTPS://EXAMPLE.com/full",
        "https://example.com/bug",
        "https://EXAMPLE.com/a#again",
    )
    assert answer.status_code == 207
    first, refused, full, bug, again = answer.json()["items"]
    assert first == {
        "url": "https://example.com/a",
        "status": "QUEUED",
        "request_id": IsUUID(4),
    }
    assert again == first
    assert refused["url"] == "nothing"
    assert refused["problem"] == IsPartialDict(
        type="urn:page-metadata:problem:invalid-url", status=400
    )
    assert full["url"] == "https://example.com/full"
    assert full["problem"] == IsPartialDict(
        type="urn:page-metadata:problem:not-queued", status=503, detail="the queue is full"
    )
    assert bug["problem"] == IsPartialDict(status=500, detail=IsStr(regex="The error has been.*"))
    assert [it.url for it in publisher.published] == ["https://example.com/a"]


async def test_pages_of_a_batch_are_published_side_by_side(
    client: httpx.AsyncClient, publisher: CountingPublisher
) -> None:
    answer = await batch(client, *(f"https://example.com/{number}" for number in range(1000)))
    assert len({it["request_id"] for it in answer.json()["items"]}) == 1000
    assert publisher.most == 100


async def test_a_page_that_is_fresh_enough_is_not_queued(
    client: httpx.AsyncClient, pages: FakePages, publisher: CountingPublisher
) -> None:
    request = a_request("https://example.com/known")
    claim: Any = await pages.claim(Delivery(request), lease_seconds=60)
    await pages.complete(claim, a_page())
    answer = await batch(client, request.url, "https://example.com/new", max_age=60)
    known, new = answer.json()["items"]
    assert known == {
        "url": request.url,
        "status": "COMPLETED",
        "request_id": str(request.request_id),
    }
    assert new["status"] == "QUEUED"
    assert [it.url for it in publisher.published] == ["https://example.com/new"]


@pytest.mark.parametrize("path", ["/metadata", "/metadata/batch"])
async def test_a_byte_order_mark_before_a_body_is_ignored(
    client: httpx.AsyncClient, path: str
) -> None:
    body = json.dumps({"url": "http://a/", "urls": ["http://a/"]}).encode("utf-8-sig")
    headers = {"Content-Type": "application/json"}
    answer = await client.post(path, content=body, headers=headers)
    assert answer.status_code in {202, 207}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.urls"),
        ({"urls": []}, "body.urls"),
        ({"urls": ["https://example.com/"] * 1001}, "body.urls"),
        ({"urls": "https://example.com/"}, "body.urls"),
        ({"urls": ["https://example.com/", 7]}, "body.urls.1"),
        ({"urls": ["https://example.com/"], "max_age": -1}, "body.max_age"),
        (["https://example.com/"], "body"),
    ],
)
async def test_a_body_that_is_no_batch_queues_nothing(
    client: httpx.AsyncClient, publisher: CountingPublisher, body: Any, field: str
) -> None:
    answer = await client.post("/metadata/batch", json=body)
    assert answer.status_code == 400
    assert [it["field"] for it in answer.json()["errors"]] == [field]
    assert publisher.published == []


async def test_a_batch_may_have_four_mebibytes_and_another_body_may_not(
    client: httpx.AsyncClient,
) -> None:
    long_ones = ["https://example.com/" + "x" * 4000] * 1000
    assert (await batch(client, *long_ones)).status_code == 207
    body = json.dumps({"urls": ["x" * MAX_BATCH_BYTES]})
    answer = await client.post("/metadata/batch", content=body)
    assert answer.status_code == 413
    assert str(MAX_BATCH_BYTES) in answer.json()["detail"]
    single = await client.post("/metadata", content=json.dumps({"url": "x" * 20_000}))
    assert single.status_code == 413


async def test_a_batch_may_be_as_large_below_a_prefix(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app, root_path="/prefix")
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        urls = ["https://example.com/" + "x" * 2000] * 1000
        answer = await client.post("/prefix/metadata/batch", json={"urls": urls})
    assert answer.status_code == 207


@pytest.mark.parametrize(
    "body",
    [
        b'{"urls": ["https://example.com/"], "x": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"urls": ["https://example.com/"], "urls": [1], "max_age": null, "urls": ["http://a/"]}',
    ],
)
async def test_what_a_batch_has_besides_is_ignored(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/metadata/batch", content=body, headers=headers)
    assert answer.status_code == 207
    assert len(answer.json()["items"]) == 1


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"urls": ["\\ud800", "http://b/"]}', "application/json"),
        (b'{"urls": ["http://b/"', "application/json"),
        (b"", "application/json"),
        (b"\xff", "application/json"),
        (b'{"urls": ["http://b/"]}', "text/plain"),
    ],
)
async def test_a_body_that_is_not_json_is_refused_whole(
    client: httpx.AsyncClient, publisher: CountingPublisher, body: bytes, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    answer = await client.post("/metadata/batch", content=body, headers=headers)
    assert answer.status_code == 400
    assert '{"urls": [...]}' in answer.json()["detail"]
    assert publisher.published == []


async def test_a_long_url_that_is_refused_is_not_repeated_whole(client: httpx.AsyncClient) -> None:
    (item,) = (await batch(client, "https://example.com/" + "x" * 100_000)).json()["items"]
    assert len(item["url"]) == 2083
    assert item["problem"]["status"] == 400


async def test_each_page_of_a_batch_counts_against_the_limit(
    app: FastAPI, client: httpx.AsyncClient, publisher: CountingPublisher
) -> None:
    app.state.gate = Gate(keys=None, address_limit=AddressLimit(5), pause_seconds=0)
    answer = await batch(client, *(f"https://example.com/{number}" for number in range(8)))
    problems = [it.get("problem", {}).get("status") for it in answer.json()["items"]]
    assert problems == 5 * [None] + 3 * [429]
    assert len(publisher.published) == 5
    assert answer.headers["ratelimit"].startswith('"address";r=0;')
    assert (await batch(client, "https://example.com/")).status_code == 429


async def test_more_batches_than_a_process_takes_at_once_are_refused(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    app.state.batches = Room(1, when_full=BATCHES_BUSY, wait_seconds=0.01)
    async with app.state.batches.taken(1):
        answer = await batch(client, "https://example.com/")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:page-metadata:problem:batches-busy"
    assert (await batch(client, "https://example.com/")).status_code == 207


async def test_what_a_batch_takes_is_free_again_whatever_became_of_it(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    room = app.state.batch_bytes = Room(10**6, when_full=BATCHES_BUSY, wait_seconds=0.01)
    for body in (b'{"urls": ["http://a/"]}', b"{", b'{"urls": [' + b" " * MAX_BATCH_BYTES):
        await client.post("/metadata/batch", content=body)
    async with room.taken(10**6):  # raises if something still holds a part of it
        answer = await batch(client, "https://example.com/")
    assert answer.status_code == 503


async def test_an_unforeseen_error_of_one_page_is_logged(
    client: httpx.AsyncClient, log: Log
) -> None:
    await batch(client, "https://example.com/bug")
    assert log.events.count("unhandled_error") == 1


def test_the_time_of_a_position_is_that_of_records() -> None:
    assert POSITION.created_at == datetime(2026, 1, 1, 0, 0, 0, 7000, tzinfo=UTC)
