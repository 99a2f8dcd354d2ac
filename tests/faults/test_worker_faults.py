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
    assert_nothing_is_lost(service, site)


def test_a_page_that_kills_its_worker_is_hit_once_in_company_and_then_alone(
    service: Service, site: Site
) -> None:
    api, worker = service.api().start(), service.worker(WORKER_MAX_ATTEMPTS="3")
    url, site.on_poison = site.url("/poison/page"), worker.kill
    with supervised(worker.launch):
        service.post(api, url)
        page = service.ended(api, url, within=60)
        assert_nothing_is_lost(service, site)
    assert page["status"] == "FAILED_PERMANENT"
    assert page["error"]["kind"] == "attempts_exhausted"
    assert site.hits["/poison/page"] == 1 + 3


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


def test_requests_during_a_fetch_cause_one_more_fetch(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker())
    url = site.url("/held/page")
    service.post(api, url)
    worker.wait_for_event("fetch_started")
    for _ in range(20):
        service.post(api, url)
    worker.wait_for_event("request_deferred", count=20)
    site.release()
    assert_nothing_is_lost(service, site)
    assert site.hits["/held/page"] == 2


def test_requests_that_wait_in_the_queue_are_answered_by_one_fetch(
    service: Service, site: Site
) -> None:
    api, url = service.api().start(), site.url("/page")
    for _ in range(20):
        service.post(api, url)
    service.worker().start()
    assert_nothing_is_lost(service, site)
    assert site.hits["/page"] == 1


def test_two_workers_share_the_queue(service: Service, site: Site) -> None:
    api = service.api().start()
    workers = [service.worker(WORKER_CONCURRENCY="4") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Worker.start, workers))
    load = Load(service, api, (site.url(f"/slow/50/{n}") for n in range(100))).start()
    load.finish()
    assert_nothing_is_lost(service, site)
    assert all(worker.events("metadata_persisted") for worker in workers)
    assert set(site.hits.values()) == {1}
