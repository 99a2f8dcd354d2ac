"""Reading a page in the form that a caller asks for; and waiting for it. No server, no lifespan."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from dirty_equals import IsPartialDict
from fastapi import FastAPI

from app.errors import StoreUnavailable
from app.models import (
    MAX_INLINE_SOURCE_BYTES,
    METADATA_FIELDS,
    Awaited,
    Claim,
    Delivery,
    PageError,
    PageRecord,
    PageRequest,
)
from app.services import Inventory
from app.waiting import WaitEnd, Waiters
from tests.fakes import URL, FakePages, FakePublisher, a_page, a_request

ERROR = PageError("dns", "the host name could not be resolved")
LARGE = '<p>é€😀\0"</p>' * (MAX_INLINE_SOURCE_BYTES // 10)
SIZES = {"small": "<p>é</p>", "of some KB": "<p>é</p>" * 1000, "large": LARGE}

each_size = pytest.mark.parametrize("source", SIZES.values(), ids=SIZES.keys())


class ReadPages(FakePages):
    """Notes which fields were read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[frozenset[str]] = []

    async def find(self, url: str, fields: frozenset[str] = METADATA_FIELDS) -> PageRecord | None:
        self.reads.append(fields)
        return await super().find(url, fields)

    async def find_with_source(
        self, url: str, fields: frozenset[str] = METADATA_FIELDS
    ) -> PageRecord | None:
        self.reads.append(fields)
        return await super().find_with_source(url, fields)


@pytest.fixture
def pages() -> ReadPages:
    return ReadPages()


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def app(default_api: FastAPI, pages: ReadPages, publisher: FakePublisher) -> FastAPI:
    default_api.state.inventory = Inventory(publisher=publisher, pages=pages)
    default_api.state.waiters = Waiters(pages.answered, most=2)
    return default_api


class ShortWaiters(Waiters):
    """Wait a hundredth of what callers would wait, which `asked_for` lists."""

    def __init__(self, pages: FakePages) -> None:
        super().__init__(pages.answered, most=2)
        self.asked_for: list[float] = []

    async def wait(self, awaited: Awaited, seconds: float) -> WaitEnd:
        self.asked_for.append(seconds)
        return await super().wait(awaited, seconds / 100)


@pytest.fixture
def short_waiters(app: FastAPI, pages: ReadPages) -> ShortWaiters:
    """Whoever waits in the application waits by these."""
    waiters = ShortWaiters(pages)
    app.state.waiters = waiters
    return waiters


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    plain = {"Accept-Encoding": "identity"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://testserver", headers=plain
    ) as client:
        yield client


async def claimed(pages: FakePages, request: PageRequest | None = None) -> Claim:
    claim = await pages.claim(Delivery(request or a_request()), lease_seconds=120)
    assert isinstance(claim, Claim)
    return claim


async def store(pages: FakePages, source: str | None = "<p>") -> None:
    await pages.complete(await claimed(pages), a_page(page_source=source))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what it waits for is not ours to signal)
            await asyncio.sleep(0.01)


async def get(
    client: httpx.AsyncClient, fields: str | None = None, **headers: str
) -> httpx.Response:
    query = {"url": URL} if fields is None else {"url": URL, "fields": fields}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get("/metadata", params=query, headers=named)


async def get_source(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get("/metadata/source", params={"url": URL}, headers=named)


# --- Fields ---


async def test_only_the_named_fields_of_the_metadata_are_answered(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages, LARGE)
    answer = await get(client, "status_code,content_type,headers")
    assert answer.status_code == 200
    assert answer.json()["metadata"] == {
        "status_code": 200,
        "content_type": "text/html",
        "headers": [
            {"name": "content-type", "value": "text/html"},
            {"name": "x-twice", "value": "1"},
            {"name": "x-twice", "value": "2"},
        ],
    }
    whole = (await get(client)).json()
    assert answer.json() == {**whole, "metadata": answer.json()["metadata"]}


async def test_nothing_else_is_read(client: httpx.AsyncClient, pages: ReadPages) -> None:
    await store(pages, LARGE)
    await get(client, "status_code")
    assert pages.reads == [frozenset({"status_code"})]


async def test_no_field_may_be_named(client: httpx.AsyncClient, pages: ReadPages) -> None:
    await store(pages)
    assert (await get(client, "")).json() == IsPartialDict(status="COMPLETED", metadata={})


@each_size
async def test_the_source_may_be_among_the_named_fields(
    client: httpx.AsyncClient, pages: ReadPages, source: str
) -> None:
    await store(pages, source)
    answer = await get(client, "page_source,charset")
    assert answer.json()["metadata"] == {"page_source": source, "charset": "utf-8"}


async def test_the_last_response_of_a_failed_page_is_selected_from_too(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await pages.fail(await claimed(pages), ERROR, a_page(503))
    answer = await get(client, "status_code")
    assert answer.json() == IsPartialDict(metadata={"status_code": 503}, error=IsPartialDict())


async def test_a_page_that_failed_without_a_response_has_no_metadata(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await pages.fail(await claimed(pages), ERROR)
    assert (await get(client, "status_code")).json()["metadata"] is None


async def test_a_page_that_has_not_ended_is_answered_as_ever(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await pages.note_queued(a_request())
    assert (await get(client, "status_code")).json() == (await get(client)).json()


@pytest.mark.parametrize("fields", ["size", "status_code,size", "status_code,", "status_code, url"])
async def test_a_field_that_there_is_not_is_a_bad_request_that_lists_those_there_are(
    client: httpx.AsyncClient, publisher: FakePublisher, fields: str
) -> None:
    answer = await get(client, fields)
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["type"] == "urn:page-metadata:problem:invalid-request"
    assert [error["field"] for error in problem["errors"]] == ["query.fields"]
    for name in METADATA_FIELDS:
        assert name in problem["detail"]
    assert publisher.published == []


@pytest.mark.parametrize(
    "names", [",".join(map(str, range(5000))), "x" * 20_000], ids=["many", "long"]
)
async def test_of_unknown_names_only_the_beginning_is_repeated(
    client: httpx.AsyncClient, names: str
) -> None:
    answer = await get(client, names)
    assert answer.status_code == 400
    assert len(answer.content) < 2000


# --- The source alone ---


@each_size
async def test_the_source_is_answered_as_plain_text_that_nothing_runs(
    client: httpx.AsyncClient, pages: ReadPages, source: str
) -> None:
    await store(pages, source)
    answer = await get_source(client)
    assert answer.content == source.encode()
    assert dict(answer.headers) == IsPartialDict(
        {
            "content-type": "text/plain; charset=utf-8",
            "content-disposition": 'attachment; filename="page-source.txt"',
            "content-security-policy": "sandbox",
            "x-content-type-options": "nosniff",
        }
    )


async def test_of_a_page_whose_source_is_asked_for_nothing_else_is_read(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages, LARGE)
    await get_source(client)
    assert set(pages.reads) == {frozenset({"page_source"})}


async def test_the_source_of_an_unknown_page_is_not_found_and_nothing_is_queued(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    answer = await get_source(client)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:page-metadata:problem:unknown-page"
    assert publisher.published == []


async def test_the_source_of_a_page_that_has_not_ended_is_not_there_yet(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await claimed(pages)
    answer = await get_source(client)
    assert answer.status_code == 404
    assert answer.json() == IsPartialDict(
        type="urn:page-metadata:problem:no-page-source",
        detail="the page has no result yet; GET /metadata tells its status",
    )


@pytest.mark.parametrize("ending", ["not text", "no response"])
async def test_a_page_without_text_has_no_source(
    client: httpx.AsyncClient, pages: ReadPages, ending: str
) -> None:
    if ending == "not text":
        await store(pages, None)
    else:
        await pages.fail(await claimed(pages), ERROR)
    answer = await get_source(client)
    assert answer.status_code == 404
    assert answer.json() == IsPartialDict(
        type="urn:page-metadata:problem:no-page-source",
        detail="the body of the page is not text, there was no response, or the service keeps no "
        "page sources (STORE_PAGE_SOURCE=false)",
    )


# --- ETag, Last-Modified, 304 ---


async def tags(client: httpx.AsyncClient) -> dict[str, str]:
    """Return the tag of each form of the page."""
    zipped = {"Accept_Encoding": "gzip"}
    answers = {
        "whole": await get(client),
        "whole, compressed": await get(client, **zipped),
        "one field": await get(client, "page_source"),
        "one field, compressed": await get(client, "page_source", **zipped),
        "another field": await get(client, "charset"),
        "no field": await get(client, ""),
        "source": await get_source(client),
        "source, compressed": await get_source(client, **zipped),
    }
    return {name: answer.headers["etag"] for name, answer in answers.items()}


@pytest.mark.parametrize("source", list(SIZES.values())[1:], ids=list(SIZES)[1:])
async def test_every_form_of_a_page_has_a_tag_of_its_own(
    client: httpx.AsyncClient, pages: ReadPages, source: str
) -> None:
    await store(pages, source)
    found = await tags(client)
    assert len(set(found.values())) == len(found)
    assert await tags(client) == found


async def test_all_fields_named_are_the_same_form_as_no_selection(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages)
    named = await get(client, ",".join(METADATA_FIELDS))
    whole = await get(client)
    assert (named.headers["etag"], named.content) == (whole.headers["etag"], whole.content)


async def test_every_tag_changes_with_the_page_though_the_clock_does_not(
    client: httpx.AsyncClient, pages: ReadPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, now = a_request(), datetime.now(UTC)

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # tests do not subclass
            del tz
            return now

    monkeypatch.setattr("tests.fakes.datetime", Stopped)
    await pages.complete(await claimed(pages, request), a_page(page_source="one" * 1000))
    before = await tags(client)
    again = Delivery(a_request())
    claim = await pages.claim(again, lease_seconds=120)
    assert isinstance(claim, Claim)
    await pages.complete(claim, a_page(page_source="two" * 1000))
    after = await tags(client)
    assert not set(before.values()) & set(after.values())


@pytest.mark.parametrize("form", ["json", "fields", "source"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
@each_size
async def test_a_caller_that_has_the_page_is_answered_304_without_reading_it(
    client: httpx.AsyncClient, pages: ReadPages, form: str, coding: str, source: str
) -> None:
    await store(pages, source)

    async def read(**headers: str) -> httpx.Response:
        if form == "source":
            return await get_source(client, Accept_Encoding=coding, **headers)
        fields = "page_source" if form == "fields" else None
        return await get(client, fields, Accept_Encoding=coding, **headers)

    first = await read()
    pages.reads.clear()
    second = await read(If_None_Match=first.headers["etag"])
    assert (second.status_code, second.content) == (304, b"")
    assert pages.reads == [frozenset()]
    for name in ("etag", "last-modified", "cache-control", "vary"):
        assert second.headers[name] == first.headers[name]
    assert not {"content-length", "content-type", "content-encoding"} & set(second.headers)
    await store(pages, source)
    third = await read(If_None_Match=first.headers["etag"])
    assert third.status_code == 200
    assert third.headers["etag"] != first.headers["etag"]


async def test_a_tag_of_other_fields_is_not_enough(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages)
    tag = (await get(client, "charset")).headers["etag"]
    assert (await get(client, "status_code", If_None_Match=tag)).status_code == 200
    assert (await get(client, "charset", If_None_Match=tag)).status_code == 304


async def test_last_modified_is_when_the_record_last_changed(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages)
    answer = await get(client)
    changed = datetime.fromisoformat(answer.json()["updated_at"])
    assert parsedate_to_datetime(answer.headers["last-modified"]) == changed.replace(microsecond=0)
    assert answer.headers["cache-control"] == "no-cache"


async def test_a_page_that_has_not_ended_has_no_tag_and_is_never_304(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await claimed(pages)
    answer = await get(client, If_None_Match="*")
    assert answer.status_code == 202
    assert "etag" not in answer.headers


# --- HEAD ---


@pytest.mark.parametrize("path", ["/metadata", "/metadata/source"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
@each_size
async def test_head_has_the_headers_of_get(
    client: httpx.AsyncClient, pages: ReadPages, path: str, coding: str, source: str
) -> None:
    await store(pages, source)
    headers = {"Accept-Encoding": coding, "X-Request-ID": str(a_request().request_id)}
    got = await client.get(path, params={"url": URL}, headers=headers)
    head = await client.head(path, params={"url": URL}, headers=headers)
    assert head.status_code == got.status_code == 200
    assert dict(head.headers) == dict(got.headers)


async def test_head_does_not_read_a_large_page(client: httpx.AsyncClient, pages: ReadPages) -> None:
    await store(pages, LARGE)
    await client.head("/metadata", params={"url": URL})
    assert len(pages.reads) == 1


async def test_head_queues_an_unknown_page_as_get_does(
    client: httpx.AsyncClient, publisher: FakePublisher
) -> None:
    assert (await client.head("/metadata", params={"url": URL})).status_code == 202
    assert len(publisher.published) == 1


# --- gzip ---


async def raw(client: httpx.AsyncClient, path: str, coding: str) -> tuple[httpx.Response, bytes]:
    """Return an answer, and its body as it was sent."""
    headers = {"Accept-Encoding": coding}
    async with client.stream("GET", path, params={"url": URL}, headers=headers) as answer:
        return answer, b"".join([piece async for piece in answer.aiter_raw()])


@pytest.mark.parametrize("path", ["/metadata", "/metadata/source"])
@pytest.mark.parametrize("source", list(SIZES.values())[1:], ids=list(SIZES)[1:])
async def test_an_answer_is_compressed_for_who_accepts_it(
    client: httpx.AsyncClient, pages: ReadPages, path: str, source: str
) -> None:
    await store(pages, source)
    plain, body = await raw(client, path, "identity")
    zipped, compressed = await raw(client, path, "gzip")
    assert gzip.decompress(compressed) == body
    assert len(compressed) < len(body) / 4
    assert zipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == zipped.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("coding", ["identity", "gzip;q=0", "br", "*;q=0", ""])
@each_size
async def test_an_answer_is_left_as_it_is_for_who_does_not(
    client: httpx.AsyncClient, pages: ReadPages, coding: str, source: str
) -> None:
    await store(pages, source)
    answer, body = await raw(client, "/metadata/source", coding)
    assert "content-encoding" not in answer.headers
    assert body == source.encode()


async def test_an_answer_up_to_1_kb_is_not_compressed(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages, "x" * 1024)
    answer, _ = await raw(client, "/metadata/source", "gzip")
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_a_large_answer_is_not_compressed_in_the_event_loop(
    client: httpx.AsyncClient, pages: ReadPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads: list[Any] = []
    real = asyncio.to_thread

    async def noted(function: Callable[..., Any], *args: Any) -> Any:
        in_threads.append(function)
        return await real(function, *args)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    await store(pages, LARGE)
    await raw(client, "/metadata", "gzip")
    assert len(in_threads) > 2


# --- Prefer: wait ---


async def test_without_the_header_nothing_waits(client: httpx.AsyncClient) -> None:
    answer = await asyncio.wait_for(get(client), 1)
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


async def test_a_read_waits_until_the_page_has_ended(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher
) -> None:
    waiting = asyncio.create_task(get(client, "status_code", Prefer="wait=60"))
    await until(lambda: publisher.published)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await pages.complete(await claimed(pages, publisher.published[0]), a_page())
    answer = await asyncio.wait_for(waiting, 1)
    assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
    assert answer.json()["metadata"] == {"status_code": 200}
    assert answer.headers["preference-applied"] == "wait=60"
    assert len(publisher.published) == 1


async def test_a_page_that_has_ended_is_answered_at_once(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages)
    answer = await asyncio.wait_for(get(client, Prefer="wait=60"), 1)
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=60")


async def test_a_wait_that_was_in_vain_is_answered_202(
    client: httpx.AsyncClient, short_waiters: ShortWaiters
) -> None:
    answer = await get(client, Prefer="wait=1")
    assert short_waiters.asked_for == [1]
    assert (answer.status_code, answer.json()["status"]) == (202, "QUEUED")
    assert answer.headers["preference-applied"] == "wait=1"
    assert "retry-after" in answer.headers


async def post(client: httpx.AsyncClient, seconds: int, **query: str) -> httpx.Response:
    headers = {"Prefer": f"wait={seconds}"}
    return await client.post("/metadata", json={"url": URL}, params=query, headers=headers)


async def test_a_post_waits_for_a_fetch_that_began_after_it(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher
) -> None:
    running = await claimed(pages)
    waiting = asyncio.create_task(post(client, 60, fields="page_source"))
    await until(lambda: publisher.published)
    await pages.complete(running, a_page(page_source="older than the request"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    claim = await claimed(pages, publisher.published[0])
    await pages.complete(claim, a_page(page_source="newer"))
    answer = await asyncio.wait_for(waiting, 1)
    assert answer.status_code == 200
    assert answer.json()["metadata"] == {"page_source": "newer"}
    location = "/metadata?url=https%3A%2F%2Fexample.com%2F&fields=page_source"
    assert answer.headers["content-location"] == location
    assert answer.headers["preference-applied"] == "wait=60"
    assert "etag" in answer.headers


@pytest.mark.parametrize(
    ("fields", "rest"),
    [
        (",".join(["status_code", "headers"] * 100), "&fields=headers,status_code"),
        ("", "&fields="),
        (",".join(METADATA_FIELDS), ""),
    ],
    ids=["repeated", "none", "all"],
)
async def test_the_answer_to_a_post_names_where_the_same_fields_can_be_read(
    client: httpx.AsyncClient, pages: ReadPages, fields: str, rest: str
) -> None:
    await store(pages)
    body = {"url": URL, "max_age": 60}
    posted = await client.post("/metadata", json=body, params={"fields": fields})
    assert posted.status_code == 200
    location = posted.headers["content-location"]
    assert location == f"/metadata?url=https%3A%2F%2Fexample.com%2F{rest}"
    read = await client.get(location)
    assert (read.json(), read.headers["etag"]) == (posted.json(), posted.headers["etag"])


async def test_a_post_that_has_waited_in_vain_is_answered_202_as_ever(
    client: httpx.AsyncClient, publisher: FakePublisher, short_waiters: ShortWaiters
) -> None:
    answer = await post(client, 1)
    assert short_waiters.asked_for == [1]
    (request,) = publisher.published
    assert answer.status_code == 202
    assert answer.json() == {
        "status": "QUEUED",
        "url": URL,
        "request_id": str(request.request_id),
    }
    assert answer.headers["location"] == "/metadata?url=https%3A%2F%2Fexample.com%2F"
    assert answer.headers["preference-applied"] == "wait=1"


async def test_a_post_whose_result_cannot_be_read_is_answered_202_as_it_is_queued(
    client: httpx.AsyncClient, app: FastAPI, pages: ReadPages
) -> None:
    async def answered(waits: Any) -> Any:
        pages.failing = lambda: StoreUnavailable("no server")
        return set(waits)

    app.state.waiters = Waiters(answered, most=1)
    assert (await post(client, 60)).status_code == 202


async def test_beyond_the_number_that_may_wait_the_preference_is_ignored(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    waiting = [asyncio.create_task(get(client, Prefer="wait=60")) for _ in range(2)]
    await asyncio.sleep(0.1)
    for answer in (await get(client, Prefer="wait=60"), await post(client, 60)):
        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers
    await store(pages)
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_of_callers_that_come_together_only_those_who_wait_are_told_so(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    # Each finds room when it comes, and has looked at the page before it takes its place.
    calls = [asyncio.create_task(get(client, Prefer="wait=60")) for _ in range(10)]
    await until(lambda: sum(call.done() for call in calls) == 8)
    await store(pages)
    answers = await asyncio.gather(*calls)
    told = ["preference-applied" in answer.headers for answer in answers]
    assert sum(told) == 2
    assert [answer.status_code for answer in answers] == [200 if it else 202 for it in told]


# --- Prefer: wait, with max_age ---


async def read_fresh(
    client: httpx.AsyncClient, max_age: int, prefer: str = "wait=60", **headers: str
) -> httpx.Response:
    query = {"url": URL, "max_age": str(max_age), "fields": "page_source"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get("/metadata", params=query, headers=named | {"Prefer": prefer})


@pytest.mark.parametrize("max_age", [0, 80])
async def test_a_read_waits_for_the_refresh_of_a_stale_result(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher, max_age: int
) -> None:
    await store(pages, "old")
    pages.pass_time(URL, 100)
    waiting = asyncio.create_task(read_fresh(client, max_age))
    await until(lambda: publisher.published)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await pages.complete(await claimed(pages, publisher.published[0]), a_page(page_source="new"))
    answer = await asyncio.wait_for(waiting, 1)
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.json() == IsPartialDict(
        metadata={"page_source": "new"}, stale=False, refresh=None
    )
    assert len(publisher.published) == 1


async def test_the_stale_result_is_answered_when_the_time_to_wait_is_over(
    client: httpx.AsyncClient,
    pages: ReadPages,
    publisher: FakePublisher,
    short_waiters: ShortWaiters,
) -> None:
    await store(pages, "old")
    pages.pass_time(URL, 100)
    answer = await read_fresh(client, 80, "wait=1")
    assert short_waiters.asked_for == [1]
    assert answer.status_code == 200
    assert answer.json() == IsPartialDict(
        metadata={"page_source": "old"}, stale=True, refresh=IsPartialDict(status="QUEUED")
    )
    assert len(publisher.published) == 1


async def test_a_refresh_that_fails_ends_the_wait_with_the_stale_result(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher
) -> None:
    await store(pages, "old")
    pages.pass_time(URL, 100)
    waiting = asyncio.create_task(read_fresh(client, 80))
    await until(lambda: publisher.published)
    await pages.fail(await claimed(pages, publisher.published[0]), ERROR)
    answer = await asyncio.wait_for(waiting, 1)
    assert answer.json() == IsPartialDict(
        stale=True, refresh=IsPartialDict(status="FAILED_PERMANENT")
    )
    assert len(publisher.published) == 1


async def test_a_stale_failure_is_waited_for_as_a_page_without_result(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher
) -> None:
    await pages.fail(await claimed(pages), ERROR)
    pages.pass_time(URL, 100)
    waiting = asyncio.create_task(read_fresh(client, 80))
    await until(lambda: publisher.published)
    await pages.complete(await claimed(pages, publisher.published[0]), a_page(page_source="new"))
    answer = await asyncio.wait_for(waiting, 1)
    assert answer.json() == IsPartialDict(status="COMPLETED", stale=False)


async def test_nobody_waits_for_a_result_that_is_young_enough_or_not_to_be_refreshed(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher
) -> None:
    await store(pages)
    pages.pass_time(URL, 100)
    assert not (await asyncio.wait_for(read_fresh(client, 120), 1)).json()["stale"]
    query = {"url": URL, "max_age": "80", "queue": "false"}
    call = client.get("/metadata", params=query, headers={"Prefer": "wait=60"})
    assert (await asyncio.wait_for(call, 1)).json()["stale"]
    assert publisher.published == []


async def test_a_post_with_a_young_result_is_answered_at_once_and_any_other_waits(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher
) -> None:
    await store(pages, LARGE)
    pages.pass_time(URL, 100)

    async def post_with(max_age: int) -> httpx.Response:
        return await client.post(
            "/metadata",
            json={"url": URL, "max_age": max_age},
            params={"fields": "page_source"},
            headers={"Prefer": "wait=60"},
        )

    fresh = await asyncio.wait_for(post_with(120), 1)
    assert fresh.status_code == 200
    assert fresh.json() == IsPartialDict(metadata={"page_source": LARGE}, stale=False)
    location = "/metadata?url=https%3A%2F%2Fexample.com%2F&fields=page_source"
    assert fresh.headers["content-location"] == location
    assert publisher.published == []
    waiting = asyncio.create_task(post_with(80))
    await until(lambda: publisher.published)
    await pages.complete(await claimed(pages, publisher.published[0]), a_page(page_source="new"))
    answer = await asyncio.wait_for(waiting, 1)
    assert answer.json() == IsPartialDict(metadata={"page_source": "new"})


async def test_a_page_that_becomes_stale_or_is_to_be_refreshed_has_another_tag(
    client: httpx.AsyncClient, pages: ReadPages
) -> None:
    await store(pages)
    pages.pass_time(URL, 100)
    query = {"url": URL, "queue": "false"}
    young = await client.get("/metadata", params=query)
    stale = await client.get("/metadata", params=query | {"max_age": "80"})
    known = {"If-None-Match": young.headers["etag"]}
    again = await client.get("/metadata", params=query | {"max_age": "80"}, headers=known)
    assert (again.status_code, again.json()["stale"]) == (200, True)
    assert again.headers["etag"] == stale.headers["etag"]
    await pages.note_queued(a_request())
    refreshed = await client.get("/metadata", params=query, headers=known)
    assert (refreshed.status_code, refreshed.json()["refresh"]["status"]) == (200, "QUEUED")


async def test_one_call_queues_one_refresh_though_it_looks_twice(
    client: httpx.AsyncClient, pages: ReadPages, publisher: FakePublisher
) -> None:
    await store(pages, LARGE)
    answer = await read_fresh(client, 0, "respond-async", If_None_Match='"another"')
    assert (answer.status_code, answer.json()["stale"]) == (200, True)
    assert len(publisher.published) == 1


async def test_a_client_that_hangs_up_frees_its_place(app: FastAPI) -> None:
    hung_up = asyncio.Event()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metadata",
        "query_string": b"url=https://example.com/",
        "headers": [(b"prefer", b"wait=60")],
    }
    calls = [asyncio.create_task(app(dict(scope), receive, send)) for _ in range(2)]
    await until(lambda: not app.state.waiters.has_room)
    hung_up.set()
    await asyncio.wait_for(asyncio.gather(*calls), 1)
    assert app.state.waiters.has_room


async def test_the_poller_ends_the_wait_of_every_caller_when_the_process_stops(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    calls = [get(client, Prefer="wait=60"), post(client, 60)]
    waiting = [asyncio.create_task(call) for call in calls]
    await until(lambda: not app.state.waiters.has_room)
    app.state.waiters.close()
    for answer in await asyncio.wait_for(asyncio.gather(*waiting), 1):
        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers
