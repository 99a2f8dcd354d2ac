"""A database that is killed, stalled or late, under load."""

from collections.abc import Callable

import pytest

from tests.load import Load, assert_nothing_is_lost
from tests.messages import retries_refused
from tests.service import Service, eventually, started
from tests.site import Site

DATABASE_TIMEOUT_SECONDS = 2.0


def die(service: Service) -> Callable[[], object]:
    service.mongodb.kill()
    return service.mongodb.start


def stall(service: Service) -> Callable[[], object]:
    service.mongodb.pause()
    return service.mongodb.resume


@pytest.mark.parametrize("fault", [pytest.param(die, marks=pytest.mark.representative), stall])
def test_a_database_that_goes_and_comes_back_loses_nothing(
    fragile: Service, site: Site, fault: Callable[[Service], Callable[[], object]]
) -> None:
    api, worker = started(fragile.api(), fragile.worker())
    load = Load(fragile, api, (site.url(f"/slow/20/{n}") for n in range(1_000_000))).start()
    worker.wait_for_event("metadata_persisted", count=30)
    repair = fault(fragile)
    try:
        assert fragile.post(api, site.url("/while-away")).status_code == 202
        assert fragile.get(api, site.url("/while-away")).status_code == 503
        assert not fragile.is_ready(api)
        worker.wait_for_event("request_deferred", count=3, deadline=40)
        deliveries = len(worker.events("message_received"))
        pages_asked_for = len(load.answers)
    finally:
        repair()
    # Not a hot loop: each message came a few times at most in all those seconds.
    assert deliveries < 4 * pages_asked_for
    eventually(lambda: fragile.is_ready(api) and fragile.is_ready(worker), bool)
    before = len(worker.events("metadata_persisted"))
    worker.wait_for_event("metadata_persisted", count=before + 20)
    load.stop()
    assert set(load.answers) == {202}
    assert load.slowest < DATABASE_TIMEOUT_SECONDS + 2
    assert_nothing_is_lost(fragile, site)
    assert fragile.pages.count_documents({"processing.attempts": {"$gt": 1}}) == 0


def test_both_processes_wait_for_a_database_that_starts_late(fragile: Service, site: Site) -> None:
    fragile.mongodb.stop()
    patient = {"DATABASE_MAX_CONNECTION_ATTEMPTS": "100"}
    api, worker = fragile.api(**patient).launch(), fragile.worker(**patient).launch()
    for process in (api, worker):
        process.wait_for_event("db_connect_failed")
    fragile.mongodb.start()
    for process in (api, worker):
        process.wait_until_ready()
    assert fragile.post(api, site.url("/page")).status_code == 202
    assert_nothing_is_lost(fragile, site)


def test_a_fetched_page_is_kept_until_the_database_is_back(fragile: Service, site: Site) -> None:
    api, worker = started(fragile.api(), fragile.worker())
    url = site.url("/held/page")
    fragile.post(api, url)
    worker.wait_for_event("fetch_started")
    fragile.mongodb.kill()
    site.release()
    worker.wait_for_event("db_unavailable")
    fragile.mongodb.start()
    assert_nothing_is_lost(fragile, site)
    assert site.hits["/held/page"] == 1
    assert not worker.events("request_deferred")


def test_a_page_that_was_deferred_under_its_claim_is_fetched_again(
    fragile: Service, site: Site
) -> None:
    api, worker = started(fragile.api(), fragile.worker(DATABASE_TIMEOUT_SECONDS="0.5"))
    url = site.url("/held/page")
    fragile.post(api, url)
    worker.wait_for_event("fetch_started")
    fragile.mongodb.kill()
    site.release()
    worker.wait_for_event("request_deferred", deadline=40)
    fragile.mongodb.start()
    page = fragile.ended(api, url)
    assert (page["status"], page["attempts"]) == ("COMPLETED", 1)
    assert site.hits["/held/page"] == 2
    assert_nothing_is_lost(fragile, site)


def test_a_worker_killed_while_its_deferral_is_refused_loses_nothing(
    fragile: Service, site: Site
) -> None:
    settings = {"WORKER_RETRY_DELAYS_SECONDS": "10"}
    api, worker = started(fragile.api(**settings), fragile.worker(**settings))
    urls = [site.url("/1"), site.url("/2")]
    fragile.mongodb.kill()
    with retries_refused(fragile):
        for url in urls:
            assert fragile.post(api, url).status_code == 202
        worker.wait_for_event("publish_failed", reason="queue_rejected")
        worker.kill()
    fragile.mongodb.start()
    worker.start()
    # Not by GET, which would have a page without a record queued again.
    assert_nothing_is_lost(fragile, site)
    assert fragile.pages.count_documents({"processing.attempts": 1}) == len(urls)
