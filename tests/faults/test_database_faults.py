"""A database that is killed, stalled or late, under load."""

from collections.abc import Callable

import pytest

from tests.load import Load, assert_nothing_is_lost
from tests.service import Service, eventually
from tests.site import Site

DATABASE_TIMEOUT_SECONDS = 2.0


def _die(service: Service) -> Callable[[], object]:
    service.mongodb.kill()
    return service.mongodb.start


def _stall(service: Service) -> Callable[[], object]:
    service.mongodb.pause()
    return service.mongodb.resume


@pytest.mark.parametrize("fault", [_die, _stall])
def test_a_database_that_goes_and_comes_back_loses_nothing(
    fragile: Service, site: Site, fault: Callable[[Service], Callable[[], object]]
) -> None:
    api, worker = fragile.api().start(), fragile.worker().start()
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
    accepted = load.stop() | {site.url("/while-away"): ""}
    assert set(load.answers) == {202}
    assert load.slowest < DATABASE_TIMEOUT_SECONDS + 2
    assert_nothing_is_lost(fragile, accepted)
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
    assert_nothing_is_lost(fragile, {site.url("/page"): ""})
