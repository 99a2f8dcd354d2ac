"""How fresh a result is: asked for, told, and brought about, by two API processes side by side."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.models import PageRequest
from app.retries import Backoff
from app.store.mongo import Database
from app.store.pages import PageRepository
from dev.stack import Api, Worker
from tests.fakes import a_request
from tests.load import assert_nothing_is_lost
from tests.service import Service, eventually
from tests.site import Site

Processes = tuple[Api, Api, Worker]


def two_apis_and_a_worker(service: Service) -> Processes:
    """Start two APIs and a worker, which makes two attempts at a page."""
    first, second, worker = service.api(), service.api(), service.worker(WORKER_MAX_ATTEMPTS="2")
    for process in (first, second, worker):
        process.launch()
    for process in (first, second, worker):
        process.wait_until_ready()
    return first, second, worker


@pytest.fixture
def processes(service: Service) -> Processes:
    """Processes for a test that counts everything they do."""
    return two_apis_and_a_worker(service)


@pytest.fixture(scope="module")
def shared(shared_service: Service) -> Processes:
    """Processes for tests that look only at their own pages."""
    return two_apis_and_a_worker(shared_service)


def stored(service: Service, api: Api, url: str) -> dict[str, Any]:
    """Have a page fetched for the first time, and return its record."""
    service.post(api, url)
    return service.ended(api, url)


def refreshed(service: Service, api: Api, url: str) -> dict[str, Any]:
    """Return the record once no refresh is to come any more."""
    return eventually(lambda: service.get(api, url).json(), lambda body: not is_pending(body))


def is_pending(body: dict[str, Any]) -> bool:
    return body["refresh"] is not None and body["refresh"]["status"] != "FAILED_PERMANENT"


def herd(service: Service, apis: tuple[Api, ...], url: str, **query: Any) -> list[httpx.Response]:
    """Read a page sixty times at once, of each API in turn."""
    with ThreadPoolExecutor(20) as pool:
        calls = [
            pool.submit(service.get, apis[number % len(apis)], url, **query) for number in range(60)
        ]
        return [call.result() for call in calls]


def published(*apis: Api, **of: str) -> int:
    return sum(len(api.events("publish_success", **of)) for api in apis)


def test_sixty_who_ask_two_apis_for_a_fresher_result_cause_one_refresh(
    service: Service, site: Site, processes: Processes
) -> None:
    first, second, _ = processes
    url = site.url("/held/page")
    site.release()
    before = stored(service, first, url)
    site.hold()
    answers = herd(service, (first, second), url, max_age=0)
    assert Counter(answer.status_code for answer in answers) == {200: 60}
    assert {answer.json()["stale"] for answer in answers} == {True}
    assert {answer.json()["metadata"]["fetched_at"] for answer in answers} == {
        before["metadata"]["fetched_at"]
    }
    under_way = eventually(
        lambda: service.get(second, url).json()["refresh"],
        lambda refresh: refresh["status"] == "IN_PROGRESS",
    )
    assert (under_way["attempts"], under_way["error"]) == (1, None)
    site.release()
    after = refreshed(service, second, url)
    assert (published(first, second), site.hits["/held/page"]) == (2, 2)
    assert after["refresh"] is None
    assert after["checked_at"] > before["checked_at"]
    assert not service.get(first, url, max_age=60).json()["stale"]
    assert published(first, second) == 2
    assert_nothing_is_lost(service, site)


def test_a_refresh_whose_process_died_before_it_was_published_is_queued_again_once(
    service: Service, site: Site, processes: Processes
) -> None:
    first, second, _ = processes
    url = site.url("/page")
    stored(service, first, url)
    reserve_and_die(service, url)
    assert service.get(first, url, max_age=0).json()["refresh"]["status"] == "QUEUED"
    assert published(first, second) == 1
    earlier = {"$dateSubtract": {"startDate": "$updated_at", "unit": "hour", "amount": 1}}
    service.pages.update_one({"url": url}, [{"$set": {"updated_at": earlier}}])
    answers = herd(service, (first, second), url)
    assert Counter(answer.status_code for answer in answers) == {200: 60}
    assert refreshed(service, first, url)["refresh"] is None
    assert (published(first, second), site.hits["/page"]) == (2, 2)
    assert_nothing_is_lost(service, site)


def reserve_and_die(service: Service, url: str) -> None:
    """Reserve a refresh, and leave it there."""
    settings = service.settings
    once = Backoff(initial=1, maximum=1, multiplier=1, attempts=1)

    async def reserve() -> None:
        database = Database(
            settings.database_url, settings.database_name, timeout_seconds=5, backoff=once
        )
        await database.open()
        pages = PageRepository(database, patience_seconds=settings.patience.total_seconds())
        record = await pages.find(url)
        assert record is not None
        request: PageRequest = a_request(url)
        assert await pages.reserve_refresh(request, record)
        await database.close()

    asyncio.run(reserve())


def test_a_refresh_that_fails_is_shown_beside_the_result_that_stays(
    shared_service: Service, site: Site, shared: Processes
) -> None:
    api, _, worker = shared
    url = site.url("/failing/page")
    before = stored(shared_service, api, url)
    site.failing = True
    request_id = shared_service.post(api, url).json()["request_id"]
    worker.wait_for_event("metadata_retryable_failure", request_id=request_id)
    retrying = shared_service.get(api, url).json()
    failed = refreshed(shared_service, api, url)
    assert retrying["refresh"] == {
        "status": "FAILED_RETRYABLE",
        "request_id": request_id,
        "requested_at": failed["refresh"]["requested_at"],
        "attempts": 1,
        "error": failed["refresh"]["error"],
    }
    assert failed["refresh"] == retrying["refresh"] | {"status": "FAILED_PERMANENT", "attempts": 2}
    assert failed["refresh"]["error"]["kind"] == "http_status"
    for body in (retrying, failed):
        assert body["metadata"] == before["metadata"]
        assert (body["status"], body["checked_at"]) == ("COMPLETED", before["checked_at"])
    state = shared_service.request_state(api, request_id)
    assert (state["status"], state["attempts"], state["url"]) == ("FAILED_PERMANENT", 2, url)
    assert state["error"] == failed["refresh"]["error"]
    site.failing = False
    shared_service.post(api, url)
    assert refreshed(shared_service, api, url)["refresh"] is None


@pytest.mark.parametrize("path", ["/tagged/page", "/moved/tagged/page"])
def test_a_refresh_asks_the_server_whether_the_page_has_changed(
    shared_service: Service, site: Site, shared: Processes, path: str
) -> None:
    api, _, worker = shared
    url, first_etag = site.url(path), site.etag
    before = stored(shared_service, api, url)
    shared_service.get(api, url, max_age=0)
    confirmed = refreshed(shared_service, api, url)
    assert confirmed["metadata"] == before["metadata"]
    assert confirmed["checked_at"] > before["checked_at"]
    site.edition = 2
    shared_service.get(api, url, max_age=0)
    changed = refreshed(shared_service, api, url)
    assert changed["metadata"]["body_sha256"] != before["metadata"]["body_sha256"]
    shared_service.get(api, url, max_age=0)
    refreshed(shared_service, api, url)
    log = [hit for hit in site.seen if hit.url == site.url("/tagged/page")]
    assert [(hit.status, hit.if_none_match) for hit in log] == [
        (200, None),
        (304, first_etag),
        (200, first_etag),
        (304, site.etag),
    ]
    assert {hit.if_none_match for hit in site.seen if hit not in log} <= {None}
    worker.wait_for_event("metadata_persisted", count=4, url=url)  # logged just after the write
    told = [event["unchanged"] for event in worker.events("metadata_persisted", url=url)]
    assert told == [False, True, False, True]


def test_without_fetch_conditional_a_refresh_fetches_the_page_anew(
    service: Service, site: Site
) -> None:
    api, worker = service.api().start(), service.worker(FETCH_CONDITIONAL="false").start()
    url = site.url("/tagged/page")
    stored(service, api, url)
    service.post(api, url)
    refreshed(service, api, url)
    assert [(hit.status, hit.if_none_match) for hit in site.seen] == [(200, None)] * 2
    worker.wait_for_event("metadata_persisted", count=2)
    assert [event["unchanged"] for event in worker.events("metadata_persisted")] == [False, True]


def test_a_post_is_answered_by_a_result_that_is_young_enough(
    shared_service: Service, site: Site, shared: Processes
) -> None:
    service, (api, *_) = shared_service, shared
    sparing = service.api(API_MIN_REFRESH_SECONDS="600").start()
    url = site.url("/page")
    before = stored(service, api, url)
    for answer in (
        service.post(api, url, max_age=600),
        service.post(sparing, url),
        service.post(sparing, url, max_age=0),
        service.get(sparing, url, max_age=0),
    ):
        assert answer.status_code == 200
        assert answer.json()["metadata"] == before["metadata"]
    assert service.post(api, url, max_age=0).status_code == 202
    assert refreshed(service, api, url)["checked_at"] > before["checked_at"]
    assert site.hits["/page"] == 2


def test_a_read_with_queue_false_has_nothing_fetched(
    shared_service: Service, site: Site, shared: Processes
) -> None:
    api, url = shared[0], site.url("/page")
    answer = shared_service.get(api, url, queue="false")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:page-metadata:problem:unknown-page"
    assert (published(api, url=url), shared_service.pages.count_documents({"url": url})) == (0, 0)


def test_requests_that_share_a_fetch_are_all_told_what_became_of_them(
    shared_service: Service, site: Site, shared: Processes
) -> None:
    first, second, worker = shared
    url = site.url("/held/page")
    leader = shared_service.post(first, url).json()["request_id"]
    worker.wait_for_event("fetch_started", request_id=leader)
    sharing = [shared_service.post(second, url).json()["request_id"] for _ in range(5)]
    assert shared_service.request_state(second, leader)["status"] == "IN_PROGRESS"
    assert {shared_service.request_state(first, it)["status"] for it in sharing} == {"QUEUED"}
    site.release()
    states = [
        eventually(
            lambda it=it: shared_service.request_state(first, it),  # type: ignore[misc]  # its own `it`
            lambda state: state["status"] == "COMPLETED",
        )
        for it in sharing
    ]
    assert len({state["answered_by"] for state in states}) == 1
    assert states[0]["answered_by"] in sharing
    assert shared_service.request_state(second, leader)["answered_by"] == leader
    unknown = shared_service.request_state(first, str(uuid4()))
    assert unknown["type"] == "urn:page-metadata:problem:unknown-request"
