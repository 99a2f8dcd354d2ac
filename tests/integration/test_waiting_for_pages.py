"""`Prefer: wait` with two API processes side by side, on real servers."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.runtime.metrics import CONTENT_TYPE
from dev.stack import Api
from tests.plain_http import CLIENT
from tests.service import Service, eventually
from tests.site import Site

QUICK_SECONDS = 10
"""What counts as at once, on a machine that other tests keep busy. A wait takes up to 60 s."""


@contextmanager
def calling() -> Iterator["Calls"]:
    limits = httpx.Limits(max_connections=None)
    with (
        httpx.Client(trust_env=False, timeout=90, limits=limits) as client,
        ThreadPoolExecutor(100) as threads,
    ):
        yield Calls(client, threads)


class Calls:
    """Requests that wait, each in a thread of its own."""

    def __init__(self, client: httpx.Client, threads: ThreadPoolExecutor) -> None:
        self._client = client
        self._threads = threads

    def get(self, api: Api, url: str, seconds: int = 60) -> "Future[httpx.Response]":
        return self._call("GET", api, seconds, params={"url": url})

    def post(self, api: Api, url: str, seconds: int = 60) -> "Future[httpx.Response]":
        return self._call("POST", api, seconds, json={"url": url})

    def _call(
        self, method: str, api: Api, seconds: int, **options: Any
    ) -> "Future[httpx.Response]":
        prefer = {"Prefer": f"wait={seconds}"}
        return self._threads.submit(
            self._client.request, method, f"{api.url}/metadata", headers=prefer, **options
        )


@pytest.fixture
def calls() -> Iterator[Calls]:
    with calling() as calls:
        yield calls


def two_apis(service: Service) -> tuple[Api, Api]:
    first, second = service.api(API_MAX_WAITERS="20").launch(), service.api().launch()
    for api in (first, second):
        api.wait_until_ready()
    return first, second


@pytest.fixture(scope="module")
def unserved(deploy: Callable[[], Service]) -> tuple[Service, Api, Api]:
    """A deployment with two APIs and without a worker: what is asked for stays queued."""
    service = deploy()
    return service, *two_apis(service)


@pytest.fixture(scope="module")
def served(shared_service: Service) -> tuple[Api, Api]:
    """Two APIs with a worker."""
    apis = two_apis(shared_service)
    shared_service.worker().start()
    return apis


def hit_of(answer: httpx.Response) -> int:
    """Return the number of the fetch that the content came from."""
    assert answer.status_code == 200, answer.text
    headers = answer.json()["metadata"]["headers"]
    return next(int(it["value"]) for it in headers if it["name"] == "x-hit")


def wait_until_waiting(service: Service, url: str, calls: int = 1) -> None:
    """Return once a page was asked for and somebody has had the time to wait for it."""
    eventually(lambda: service.pages.count_documents({"url": url}), lambda count: count >= 1)
    time.sleep(0.3 + 0.02 * calls)


def test_callers_of_both_processes_are_answered_when_any_worker_has_fetched_the_page(
    shared_service: Service, site: Site, served: tuple[Api, Api], calls: Calls
) -> None:
    first, second = served
    url = site.url("/held/page")
    waiting = [calls.get(api, url) for api in served * 5]
    waiting += [calls.post(api, url) for api in served * 5]
    eventually(lambda: site.hits["/held/page"], lambda hits: hits == 1)
    wait_until_waiting(shared_service, url, len(waiting))
    assert not any(call.done() for call in waiting)
    site.release()
    answers = [call.result(QUICK_SECONDS) for call in waiting]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["preference-applied"] for answer in answers} == {"wait=60"}
    for api in (first, second):
        assert api.events("unhandled_error") == []


def test_a_post_gets_content_no_older_than_itself(
    shared_service: Service, site: Site, served: tuple[Api, Api], calls: Calls
) -> None:
    first, second = served
    url = site.url("/held/refreshed")
    early = calls.post(first, url)
    eventually(lambda: site.hits["/held/refreshed"], lambda hits: hits == 1)
    late = [calls.post(api, url) for api in (first, second)]
    eventually(
        lambda: [
            len(page["processing"]["waiting"]) for page in shared_service.pages.find({"url": url})
        ],
        lambda waiting: waiting == [2],
    )
    site.release()
    assert hit_of(early.result(QUICK_SECONDS)) == 1
    assert min(hit_of(call.result(QUICK_SECONDS)) for call in late) == 2
    # A read does not wait: the page has a result.
    assert hit_of(calls.get(second, url).result(QUICK_SECONDS)) >= 2


def test_every_one_of_many_posts_in_a_row_is_answered_in_time(
    site: Site, served: tuple[Api, Api], calls: Calls
) -> None:
    # Each fetch is followed by the next at once, so a finished request is soon an earlier one.
    url = site.url("/busy")
    waiting = []
    for number in range(60):
        waiting.append(calls.post(served[1], url))
        if number % 3 == 0:
            time.sleep(0.03)
    answers = [call.result(QUICK_SECONDS * 2) for call in waiting]
    assert {answer.status_code for answer in answers} == {200}
    assert len({hit_of(answer) for answer in answers}) > 1


def test_a_page_that_fails_for_good_ends_the_wait_too(
    served: tuple[Api, Api], calls: Calls
) -> None:
    url = "http://no-such-host.invalid/"
    posted = calls.post(served[0], url).result(QUICK_SECONDS)
    read = calls.get(served[1], url).result(QUICK_SECONDS)
    for answer in (posted, read):
        assert (answer.status_code, answer.json()["status"]) == (200, "FAILED_PERMANENT")


def test_a_process_that_stops_answers_those_who_wait_at_once(
    service: Service, site: Site, calls: Calls
) -> None:
    first, second = two_apis(service)
    url = site.url("/nobody-fetches-it")
    waiting = [calls.get(first, url), calls.post(first, url), calls.get(first, url)]
    elsewhere = calls.get(second, url, seconds=3)
    wait_until_waiting(service, url, 4)
    began = time.monotonic()
    assert first.terminate() == 0
    assert time.monotonic() - began < QUICK_SECONDS
    answers = [call.result(1) for call in waiting]
    assert {answer.status_code for answer in answers} == {202}
    assert not any("preference-applied" in answer.headers for answer in answers)
    assert elsewhere.result(QUICK_SECONDS).status_code == 202


def test_a_client_that_hangs_up_frees_its_place(service: Service, site: Site, calls: Calls) -> None:
    api = service.api(API_MAX_WAITERS="1").start()
    url = site.url("/nobody-fetches-it")
    with httpx.Client(trust_env=False, timeout=1) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.get(f"{api.url}/metadata", params={"url": url}, headers={"Prefer": "wait=60"})

    def read_again() -> httpx.Response:
        return calls.get(api, url, seconds=1).result(QUICK_SECONDS)

    # The API may see the next request a moment before it sees that the connection was closed.
    answer = eventually(
        read_again, lambda it: "preference-applied" in it.headers, within=QUICK_SECONDS
    )
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")


def test_beyond_the_number_that_may_wait_the_answer_comes_at_once(
    unserved: tuple[Service, Api, Api], site: Site, calls: Calls
) -> None:
    service, api, _ = unserved
    url = site.url("/nobody-fetches-it")
    waiting = [calls.get(api, url, seconds=6) for _ in range(20)]
    wait_until_waiting(service, url, 40)
    began = time.monotonic()
    answer = calls.get(api, url, seconds=6).result(QUICK_SECONDS)
    assert time.monotonic() - began < 4
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    assert {call.result(QUICK_SECONDS).status_code for call in waiting} == {202}


def finds_of(api: Api) -> float:
    """Return how many queries the process has made."""
    text = CLIENT.get(f"{api.url}/metrics", headers={"Accept": CONTENT_TYPE}).text
    name = "page_metadata_database_seconds_count"
    counts = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name)]
    return sum(float(value) for labels, value in counts if '"find"' in labels)


def finds_within(seconds: float, api: Api) -> float:
    """Return how many queries the process makes in so many seconds from now."""
    before = finds_of(api)
    time.sleep(seconds)
    return finds_of(api) - before


def test_a_hundred_callers_cost_no_more_queries_than_one(
    unserved: tuple[Service, Api, Api], site: Site, calls: Calls
) -> None:
    service, _, api = unserved
    seconds = 2.0

    def rate(count: int) -> float:
        waiting = [
            calls.get(api, site.url(f"/{count}/{number}"), seconds=12) for number in range(count)
        ]
        wait_until_waiting(service, site.url(f"/{count}/{count - 1}"), count)
        queries = finds_within(seconds, api)
        assert not any(call.done() for call in waiting)
        results: list[Any] = [call.result(30) for call in waiting]
        assert {answer.status_code for answer in results} == {202}
        return queries / seconds

    most = 21  # one each 50 ms, and the one that is under way
    assert 0 < rate(1) < most
    assert 0 < rate(100) < most
    # The last query may have been under way when the last wait ended; none is made after it.
    time.sleep(1)
    assert finds_within(1, api) == 0
