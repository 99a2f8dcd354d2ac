"""Workers that are killed, stopped and stuck."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dev.stack import Worker
from tests.load import Load, assert_nothing_is_lost, supervised
from tests.service import Service, started
from tests.site import Site


@pytest.mark.representative
def test_a_worker_killed_again_and_again_loses_nothing(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker())
    load = Load(service, api, (site.url(f"/slow/100/{n}") for n in range(150))).start()
    for _ in range(4):
        worker.wait_for_event("fetch_started", count=10)
        worker.kill()
        worker.start()
    accepted = load.finish()
    assert len(accepted) == 150
    assert_nothing_is_lost(service, accepted)


def test_a_page_that_kills_its_worker_fails_within_its_attempts(
    service: Service, site: Site
) -> None:
    api, worker = service.api().start(), service.worker(WORKER_MAX_ATTEMPTS="3")
    site.on_hit = lambda path: worker.kill() if path == "/killer" else None
    with supervised(worker.launch):
        service.post(api, site.url("/killer"))
        page = service.ended(api, site.url("/killer"), within=60)
    assert page["status"] == "FAILED_PERMANENT"
    assert page["error"]["kind"] == "attempts_exhausted"
    assert site.hits["/killer"] == 3


def test_a_stop_longer_than_the_grace_does_not_count_as_an_attempt(
    service: Service, site: Site
) -> None:
    settings = {"WORKER_SHUTDOWN_GRACE_SECONDS": "0.5", "WORKER_MAX_ATTEMPTS": "1"}
    api, worker = started(service.api(), service.worker(**settings))
    service.post(api, site.url("/held/page"))
    worker.wait_for_event("fetch_started")
    assert worker.terminate() == 0
    site.release()
    worker.start()
    page = service.ended(api, site.url("/held/page"))
    assert (page["status"], page["attempts"]) == ("COMPLETED", 1)


def test_twenty_requests_for_one_page_are_one_fetch(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker())
    url = site.url("/held/page")
    accepted = {service.post(api, url).json()["request_id"] for _ in range(20)}
    worker.wait_for_event("request_coalesced", count=19)
    site.release()
    assert service.ended(api, url)["request_id"] in accepted
    assert site.hits["/held/page"] == 1
    assert_nothing_is_lost(service, {url: ""})


def test_requests_that_waited_are_answered_by_one_fetch(service: Service, site: Site) -> None:
    api, url = service.api().start(), site.url("/page")
    for _ in range(20):
        service.post(api, url)
    worker = service.worker(WORKER_CONCURRENCY="1").start()
    worker.wait_for_event("request_coalesced", count=19, reason="answered")
    assert site.hits["/page"] == 1
    assert_nothing_is_lost(service, {url: ""})


def test_two_workers_share_the_queue(service: Service, site: Site) -> None:
    api = service.api().start()
    workers = [service.worker(WORKER_CONCURRENCY="4") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Worker.start, workers))
    load = Load(service, api, (site.url(f"/slow/50/{n}") for n in range(100))).start()
    accepted = load.finish()
    assert_nothing_is_lost(service, accepted)
    assert all(worker.events("metadata_persisted") for worker in workers)
    assert set(site.hits.values()) == {1}
