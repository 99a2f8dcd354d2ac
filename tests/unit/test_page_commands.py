"""What `submit`, `get` and `delete` send to the API, and how often."""

import json
from collections.abc import Awaitable, Callable

import httpx
import pytest

from app.cli.page_commands import ApiClient, _fair_wait
from app.cli.showing import Answer

URL = "https://example.com/"


class FakeApi:
    """Answers with what it was given, in order; the last answer repeats."""

    def __init__(self, *answers: httpx.Response) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def called(
        self, client: ApiClient, call: Callable[[ApiClient], Awaitable[Answer]]
    ) -> Answer:
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
    assert [request.headers["prefer"] for request in api.requests] == ["wait=7", "wait=1"]


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
