"""What `submit`, `get`, `delete` and `list` send to the API, and how often."""

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from math import inf
from typing import Any, TypeVar

import httpx
import pytest
import typer
from typer.testing import CliRunner

from app.cli.api_client import ApiClient
from app.cli.batches import submit_in_batches
from app.cli.main import app
from app.cli.page_commands import _fair_wait, _submit_file
from app.cli.showing import Answer
from app.cli.terminal import EXIT_COULD_NOT_RUN

T = TypeVar("T")

URL = "https://example.com/"


class FakeApi:
    """Answers with what it was given, in order; the last answer repeats."""

    def __init__(self, *answers: httpx.Response) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def called(self, client: ApiClient, call: Callable[[ApiClient], Awaitable[T]]) -> T:
        """Have the client call this instead of an API."""
        transport = httpx.MockTransport(self)
        client._client = httpx.AsyncClient(transport=transport, base_url="http://api")  # noqa: SLF001 (no API listens)
        answer = await call(client)
        await client.aclose()
        return answer


def an_answer(status_code: int, status: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status_code, json={"status": status, "url": URL}, headers=named)


PENDING = (202, "IN_PROGRESS")
ENDED = (200, "COMPLETED")


async def test_the_options_are_passed_on_in_query_and_body() -> None:
    api = FakeApi(an_answer(*ENDED))
    options = {"wait_seconds": 60, "max_age": 0, "fields": "status_code"}
    for call in (lambda it: it.submit(URL), lambda it: it.read(URL)):
        await api.called(ApiClient("http://api", 60, **options), call)  # type: ignore[arg-type]  # as named
    posted, read = api.requests
    assert json.loads(posted.content) == {"url": URL, "max_age": 0}
    assert dict(posted.url.params) == {"fields": "status_code"}
    assert dict(read.url.params) == {"url": URL, "max_age": "0", "fields": "status_code"}
    assert posted.headers["prefer"] == read.headers["prefer"] == "wait=60"


async def test_a_key_is_sent_in_the_header() -> None:
    for key, header in (("pm_a_b", "Bearer pm_a_b"), (None, None)):
        client = ApiClient("http://api", 60, key=key)
        assert client._client.headers.get("authorization") == header  # noqa: SLF001 (no API listens)
        await client.aclose()


async def test_a_call_over_the_limit_is_made_again() -> None:
    too_many = an_answer(429, "ERROR", retry_after="0")
    api = FakeApi(too_many, an_answer(202, "QUEUED"))
    answer = await api.called(ApiClient("http://api", 60), lambda it: it.submit(URL))
    assert (answer["status"], len(api.requests)) == ("QUEUED", 2)


async def test_without_options_nothing_is_passed_on() -> None:
    api = FakeApi(an_answer(*ENDED))
    await api.called(ApiClient("http://api", 60), lambda it: it.submit(URL))
    await api.called(ApiClient("http://api", 60), lambda it: it.read(URL))
    posted, read = api.requests
    assert json.loads(posted.content) == {"url": URL}
    assert dict(read.url.params) == {"url": URL}
    assert "prefer" not in posted.headers
    assert "prefer" not in read.headers


async def test_a_page_is_waited_for_again_without_a_pause(slept: list[float]) -> None:
    waited = an_answer(*PENDING, Preference_Applied="wait=60", Retry_After="1")
    api = FakeApi(waited, waited, an_answer(*ENDED))
    client = ApiClient("http://api", 60, wait_seconds=60)
    answer = await api.called(client, lambda it: it.read_when_ended(URL))
    assert (answer["status"], len(api.requests), slept) == ("COMPLETED", 3, [])


async def test_where_nobody_else_may_wait_the_page_is_polled(slept: list[float]) -> None:
    api = FakeApi(an_answer(*PENDING, Retry_After="3"), an_answer(*ENDED))
    client = ApiClient("http://api", 60, wait_seconds=60)
    await api.called(client, lambda it: it.read_when_ended(URL))
    assert slept == [3.0]


async def test_no_call_waits_longer_than_the_timeout() -> None:
    api = FakeApi(an_answer(*ENDED))
    await api.called(ApiClient("http://api", 7, wait_seconds=60), lambda it: it.read(URL))
    await api.called(ApiClient("http://api", -1, wait_seconds=60), lambda it: it.read(URL))
    await api.called(ApiClient("http://api", inf, wait_seconds=60), lambda it: it.read(URL))
    waits = [request.headers["prefer"] for request in api.requests]
    assert waits == ["wait=7", "wait=1", "wait=60"]


@pytest.mark.parametrize("call", [ApiClient.submit, ApiClient.read, ApiClient.delete])
async def test_what_is_not_unicode_is_wrong_usage(
    call: Callable[[ApiClient, str], Awaitable[Answer]], capsys: pytest.CaptureFixture[str]
) -> None:
    api = FakeApi(an_answer(*ENDED))
    with pytest.raises(typer.Exit) as caught:
        await api.called(ApiClient("http://api", 60), lambda it: call(it, f"{URL}\udcff"))
    assert caught.value.exit_code == EXIT_COULD_NOT_RUN
    assert "not Unicode" in capsys.readouterr().err
    assert not api.requests


@pytest.mark.parametrize("key", ["schl\xfcssel", "pm_a_b\n"])
def test_a_key_that_no_header_can_carry_is_wrong_usage(key: str) -> None:
    ran = CliRunner().invoke(app, ["get", URL, "--key", key, "--api", "http://127.0.0.1:1"])
    assert ran.exit_code == EXIT_COULD_NOT_RUN
    assert "printable ASCII" in " ".join(ran.stderr.split())


@pytest.mark.parametrize(("pages", "seconds"), [(1, 60), (64, 60), (128, 30), (100_000, 2)])
def test_the_more_pages_the_shorter_each_call(pages: int, seconds: int) -> None:
    assert _fair_wait(pages) == seconds


async def test_a_page_is_deleted_by_its_url(slept: list[float]) -> None:
    api = FakeApi(
        httpx.Response(503, headers={"Retry-After": "3"}),
        httpx.Response(429, headers={"Retry-After": "2"}),
        httpx.Response(204),
    )
    answer = await api.called(ApiClient("http://api", 60), lambda it: it.delete(URL))
    assert answer == {"status": "DELETED", "url": URL}
    assert {(it.method, dict(it.url.params)["url"]) for it in api.requests} == {("DELETE", URL)}
    assert slept == [3.0, 2.0]


async def test_a_refused_deletion_is_an_error_with_its_reason() -> None:
    api = FakeApi(httpx.Response(400, json={"detail": "no page"}))
    answer = await api.called(ApiClient("http://api", 60), lambda it: it.delete(URL))
    assert (answer["status"], answer["error"]["message"]) == ("ERROR", "no page")


# --- Files of URLs ---


URLS = [f"https://example.com/{number}" for number in range(2500)]
FULL = {
    "type": "urn:page-metadata:problem:not-queued",
    "detail": "the queue is full",
    "status": 503,
}
REFUSED = {"type": "urn:page-metadata:problem:invalid-url", "detail": "no URL", "status": 400}


class FakeBatches(FakeApi):
    """Queues all URLs of a batch, less those for which it was given other items, in order."""

    def __init__(self, **items: list[Any]) -> None:
        super().__init__()
        self._items = items
        self.batches: list[list[str]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=self._items[request.url.params["url"]].pop(0))
        self.requests.append(request)
        self.batches.append(json.loads(request.content)["urls"])
        return httpx.Response(207, json={"items": [self._item(url) for url in self.batches[-1]]})

    def _item(self, url: str) -> Any:
        items = self._items.get(url)
        return items.pop(0) if items else {"url": url, "status": "QUEUED", "request_id": "r"}

    async def submitted(self, urls: list[str], timeout_seconds: float = 60) -> list[Answer]:
        client = ApiClient("http://api", timeout_seconds, max_age=60, fields="status_code")
        return await self.called(client, lambda it: _submit_file(it, urls))


def refused(problem: dict[str, Any]) -> dict[str, Any]:
    return {"url": URL, "problem": problem}


async def test_a_file_is_sent_in_batches_of_a_thousand() -> None:
    api = FakeBatches()
    answers = await api.submitted(URLS)
    assert [len(batch) for batch in api.batches] == [1000, 1000, 500]
    assert [answer["url"] for answer in answers] == URLS
    assert {request.url.path for request in api.requests} == {"/metadata/batch"}
    assert {json.loads(request.content)["max_age"] for request in api.requests} == {60}


async def test_no_body_of_a_batch_is_larger_than_the_api_takes() -> None:
    urls = [f"https://example.com/{number}/{'ü' * 2050}" for number in range(1000)]
    api = FakeBatches()
    await api.submitted(urls)
    assert [url for batch in api.batches for url in batch] == urls
    assert len(api.batches) > 1
    assert max(len(request.content) for request in api.requests) < 4 * 1024 * 1024


async def test_a_url_that_fits_in_no_body_is_sent_alone() -> None:
    api = FakeBatches()
    await api.submitted([URL, "x" * 5_000_000, URL])
    assert [len(batch) for batch in api.batches] == [1, 1, 1]


async def test_a_url_may_be_there_twice() -> None:
    answers = await FakeBatches().submitted([URL, URL])
    assert [answer["status"] for answer in answers] == ["QUEUED", "QUEUED"]


async def test_what_the_queue_has_no_room_for_is_sent_again_after_growing_pauses(
    slept: list[float],
) -> None:
    first, second, third, *_ = URLS
    too_many = {**FULL, "status": 429}
    api = FakeBatches(**{second: [refused(FULL)] * 4, third: [refused(too_many)]})
    answers = await api.submitted([first, second, third])
    assert [(it["url"], it["status"]) for it in answers] == [
        *((first, "QUEUED"), (second, "QUEUED"), (third, "QUEUED"))
    ]
    assert api.batches == [[first, second, third], [second, third], [second], [second], [second]]
    # Something was taken before the first two.
    assert slept == [1.0, 1.0, 2.0, 4.0]


async def test_no_pause_is_longer_than_five_seconds(slept: list[float]) -> None:
    await FakeBatches(**{URL: [refused(FULL)] * 6}).submitted([URL])
    assert slept == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


async def test_what_is_refused_for_good_is_told_with_its_url_and_reason() -> None:
    answers = await FakeBatches(nonsense=[refused(REFUSED)]).submitted(["nonsense", URL])
    assert answers[0] == {
        "status": "ERROR",
        "url": "nonsense",
        "error": {"kind": "refused", "message": "no URL"},
    }
    assert answers[1]["status"] == "QUEUED"


async def test_after_the_timeout_each_url_was_sent_and_none_is_sent_again() -> None:
    api = FakeBatches(**{url: [refused(FULL)] for url in URLS[:1500]})
    answers = await api.submitted(URLS, timeout_seconds=-1)
    assert [len(batch) for batch in api.batches] == [1000, 1000, 500]
    assert [answer["status"] for answer in answers] == ["ERROR"] * 1500 + ["QUEUED"] * 1000
    assert answers[0]["error"]["message"] == "the queue is full"


async def test_a_batch_that_is_refused_as_a_whole_is_sent_again(slept: list[float]) -> None:
    queued = {"items": [{"url": URL, "status": "QUEUED", "request_id": "r"}]}
    api = FakeApi(
        httpx.Response(503, headers={"Retry-After": "3"}, json={"detail": "busy"}),
        httpx.Response(429, headers={"Retry-After": "50"}, json={"detail": "too many"}),
        httpx.Response(207, json=queued),
    )
    answers = await api.called(ApiClient("http://api", 60), lambda it: _submit_file(it, [URL]))
    assert ([it["status"] for it in answers], slept) == (["QUEUED"], [3.0, 5.0])


async def test_a_batch_without_a_key_is_an_error_of_each_url() -> None:
    api = FakeApi(httpx.Response(401, json={"detail": "send a key"}))
    client = ApiClient("http://api", 60)
    answers = await api.called(client, lambda it: _submit_file(it, URLS[:2]))
    assert [(it["url"], it["error"]["message"]) for it in answers] == [
        (URLS[0], "send a key"),
        (URLS[1], "send a key"),
    ]


async def test_a_page_that_need_not_be_fetched_is_told_with_its_result() -> None:
    fresh = {"url": URL, "status": "FAILED_PERMANENT", "request_id": "r"}
    error = {"kind": "dns", "message": "no such host"}
    (answer,) = await FakeBatches(**{URL: [fresh, {**fresh, "error": error}]}).submitted([URL])
    assert (answer["status"], answer["error"]) == ("FAILED_PERMANENT", error)


async def test_a_result_that_may_not_be_read_leaves_the_answer_to_the_batch() -> None:
    fresh = {"url": URL, "status": "COMPLETED", "request_id": "r"}
    (answer,) = await FakeBatches(**{URL: [fresh, {"detail": "read only"}]}).submitted([URL])
    assert answer == fresh


async def test_what_is_settled_is_told_after_each_call(slept: list[float]) -> None:
    api = FakeBatches(**{URLS[0]: [refused(FULL)]})

    async def counts(client: ApiClient) -> list[int]:
        async with aclosing(submit_in_batches(client, URLS)) as settled:
            return [len(some) async for some in settled]

    assert await api.called(ApiClient("http://api", 60), counts) == [999, 1000, 501]
    assert slept == [1.0]


# --- Lists ---


def a_list(*pages: int, following: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"items": [{"url": it} for it in pages], "next": following})


async def listed(api: FakeApi, limit: float, **filters: Any) -> list[Answer]:
    async def pages(client: ApiClient) -> list[Answer]:
        async with aclosing(client.list_pages(filters, limit)) as lists:
            return [page async for part in lists for page in part["items"]]

    return await api.called(ApiClient("http://api", 60), pages)


async def test_a_list_is_followed_with_its_filters_until_there_are_enough() -> None:
    api = FakeApi(a_list(*range(100), following="a"), a_list(*range(20), following="b"))
    assert len(await listed(api, 120, status=["QUEUED", "COMPLETED"], q="exam")) == 120
    first, second = (request.url.params for request in api.requests)
    assert first.get_list("status") == second.get_list("status") == ["QUEUED", "COMPLETED"]
    assert (first["q"], first["limit"], "cursor" in first) == ("exam", "100", False)
    assert (second["q"], second["limit"], second["cursor"]) == ("exam", "20", "a")


async def test_a_list_without_a_limit_is_followed_to_its_end() -> None:
    api = FakeApi(a_list(1, 2, following="a"), a_list(following="b"), a_list(3))
    assert [page["url"] for page in await listed(api, float("inf"))] == [1, 2, 3]


async def test_a_list_is_asked_for_again_while_the_api_is_busy(slept: list[float]) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "3"}, json={"detail": "busy"})
    too_many = httpx.Response(429, headers={"Retry-After": "2"}, json={"detail": "too many"})
    assert len(await listed(FakeApi(busy, too_many, a_list(1)), 50)) == 1
    assert slept == [3.0, 2.0]


@pytest.mark.parametrize(("status", "slug"), [(400, "invalid-request"), (503, "not-indexed")])
async def test_a_list_that_is_refused_ends_the_program_with_the_reason(
    status: int, slug: str, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"type": f"urn:page-metadata:problem:{slug}", "detail": "the reason"}
    with pytest.raises(typer.Exit):
        await listed(FakeApi(httpx.Response(status, json=problem)), 50)
    assert capsys.readouterr().err == "error: the reason\n"


async def test_a_list_of_something_that_is_not_the_api_ends_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as caught:
        await listed(FakeApi(httpx.Response(200, html="<p>Welcome</p>")), 50)
    assert caught.value.exit_code == EXIT_COULD_NOT_RUN
    assert "is the API there?" in capsys.readouterr().err
