"""Retry queues that refuse or do not confirm: the pages that are being fetched are left alone."""

from collections.abc import Iterator

import pytest

from dev.stack import Api
from tests.confirm_proxy import ConfirmProxy, proxied
from tests.load import assert_nothing_is_lost
from tests.messages import retries_refused
from tests.service import Service, eventually, started
from tests.site import Site


@pytest.fixture
def proxy(service: Service) -> Iterator[ConfirmProxy]:
    with proxied(service.rabbitmq.port) as proxy:
        yield proxy


def post_all(service: Service, api: Api, urls: list[str]) -> None:
    for url in urls:
        assert service.post(api, url).status_code == 202


def test_retries_that_are_not_confirmed_leave_the_pages_being_fetched_alone(
    service: Service, site: Site, proxy: ConfirmProxy
) -> None:
    settings = {"WORKER_RETRY_DELAYS_SECONDS": "20", "FETCH_PER_HOST_CONCURRENCY": "0"}
    unconfirmed = {"BROKER_URL": proxy.url, "BROKER_PUBLISH_TIMEOUT_SECONDS": "1"}
    api, worker = started(service.api(**settings), service.worker(**settings, **unconfirmed))
    site.failing = True
    innocent = [f"/held/{n}" for n in range(8)]
    failing = [f"/failing/{n}" for n in range(4)]
    with proxy.swallowing_confirms():
        post_all(service, api, [site.url(path) for path in innocent])
        worker.wait_for_event("fetch_started", count=8)
        post_all(service, api, [site.url(path) for path in failing])
        worker.wait_for_event("publish_failed", reason="confirm_timeout", count=2)
        site.release()
        for path in innocent:
            assert service.ended(api, site.url(path))["status"] == "COMPLETED"
    assert [site.hits[path] for path in innocent] == [1] * 8
    assert [site.hits[path] for path in failing] == [1] * 4
    site.failing = False
    assert_nothing_is_lost(service, site)
    assert {service.ended(api, site.url(path))["attempts"] for path in failing} == {2}
    assert worker.events("rmq_connection_lost", connection="consumer") == []


def test_pages_are_fetched_while_more_retries_are_refused_than_there_are_slots(
    service: Service, site: Site
) -> None:
    settings = {"WORKER_RETRY_DELAYS_SECONDS": "5", "WORKER_CONCURRENCY": "4"}
    api, worker = started(service.api(**settings), service.worker(**settings))
    site.failing = True
    failing = [site.url(f"/failing/{n}") for n in range(24)]
    healthy = [site.url(f"/page/{n}") for n in range(12)]
    with retries_refused(service):
        post_all(service, api, failing + healthy)
        for url in healthy:
            assert service.ended(api, url)["status"] == "COMPLETED"
        assert len(worker.events("metadata_retryable_failure")) < len(failing)
    site.failing = False
    assert_nothing_is_lost(service, site)
    assert {service.ended(api, url)["attempts"] for url in failing} == {2}
    assert worker.events("rmq_connection_lost", connection="consumer") == []
    assert worker.events("consumers_lost") == []


def test_a_worker_that_stops_while_retries_are_refused_uses_up_no_attempt(
    service: Service, site: Site
) -> None:
    settings = {
        "WORKER_RETRY_DELAYS_SECONDS": "5",
        "WORKER_CONCURRENCY": "2",
        "WORKER_SHUTDOWN_GRACE_SECONDS": "3",
    }
    api, worker = started(service.api(**settings), service.worker(**settings))
    site.failing = True
    urls = [site.url(f"/failing/{n}") for n in range(8)]
    with retries_refused(service):
        post_all(service, api, urls)
        worker.wait_for_event("extra_consumer_opened", count=2)
        assert worker.terminate(deadline=20) == 0
    site.failing = False
    worker.start()
    assert_nothing_is_lost(service, site)
    assert {service.ended(api, url)["attempts"] for url in urls} <= {1, 2}


def connection_pid(service: Service, name: str) -> str:
    table = service.rabbitmq.ctl("list_connections", "pid", "client_properties")
    (line,) = (line for line in table.splitlines() if name in line)
    return line.split("\t")[0]


def test_losing_the_publishing_connection_leaves_the_pages_being_fetched_alone(
    fragile: Service, site: Site
) -> None:
    api, worker = started(fragile.api(), fragile.worker())
    held = [site.url(f"/held/{n}") for n in range(4)]
    post_all(fragile, api, held)
    worker.wait_for_event("fetch_started", count=4)
    lost = connection_pid(fragile, "page-metadata-worker-publisher")
    fragile.rabbitmq.ctl("close_connection", lost, "by a test")
    worker.wait_for_event("rmq_connection_lost", connection="publisher")
    site.release()
    assert_nothing_is_lost(fragile, site)
    assert set(site.hits.values()) == {1}
    assert worker.events("rmq_connection_lost", connection="consumer") == []


def test_pages_are_acknowledged_during_a_memory_alarm(fragile: Service, site: Site) -> None:
    """RabbitMQ reads nothing from a connection that it blocks, acknowledgements included."""
    settings = {"WORKER_RETRY_DELAYS_SECONDS": "2", "WORKER_MAX_ATTEMPTS": "20"}
    api, worker = started(fragile.api(**settings), fragile.worker(**settings))
    site.failing = True
    failing = site.url("/failing/page")
    held = [site.url(f"/held/{n}") for n in range(4)]
    post_all(fragile, api, [failing, *held])
    worker.wait_for_event("metadata_retryable_failure")
    fragile.rabbitmq.ctl("set_vm_memory_high_watermark", "0.0001")
    # The next retry of the failing page is what the broker blocks the connection for.
    worker.wait_for_event("publish_failed", reason="confirm_timeout")
    site.release()
    for url in held:
        assert fragile.ended(api, url)["status"] == "COMPLETED"
    eventually(fragile.unacknowledged, lambda count: count == 1)
    fragile.rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
    site.failing = False
    assert_nothing_is_lost(fragile, site)
