"""Messages as nobody should send them, and more often than anybody should."""

import json
from uuid import uuid4

import pytest

from tests.load import assert_nothing_is_lost
from tests.messages import a_message, publish, publish_with, retries_refused
from tests.service import Service, eventually, started
from tests.site import Site

MALFORMED = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"url": "\xff"}',
    "not an object": b"[]",
    "wrong shape": b'{"url": 1}',
    "no URL": json.dumps({"request_id": str(uuid4())}).encode(),
    "far too large": b'{"url": "' + b"x" * 1_000_000 + b'"}',
}


# As on the wire: two bytes of flags, which say what properties follow, and then those.
ODD_PROPERTIES = {
    "a time in microseconds": b"\x00\x40" + (1_764_000_000_000_000).to_bytes(8),
    "a message id that is not UTF-8": b"\x00\x80" + b"\x02\xff\xfe",
    "a header whose name is not UTF-8": b"\x20\x00" + b"\x00\x00\x00\x04" + b"\x01\xfft\x01",
}


@pytest.mark.representative
@pytest.mark.parametrize("queue", ["requests", "retries"])
def test_malformed_messages_are_dead_lettered_at_once(
    service: Service, site: Site, queue: str
) -> None:
    api, worker = started(service.api(), service.worker(WORKER_CONCURRENCY="2"))
    publish(service, MALFORMED.values(), queue)
    worker.wait_for_event("message_dead_lettered", count=len(MALFORMED))
    reasons = [event["reason"] for event in worker.events("message_dead_lettered")]
    assert all(reason.startswith("malformed: ") for reason in reasons)
    service.post(api, site.url("/page"))
    assert service.ended(api, site.url("/page"))["status"] == "COMPLETED"
    assert_nothing_is_lost(service, site)


@pytest.mark.parametrize("properties", ODD_PROPERTIES.values(), ids=ODD_PROPERTIES)
def test_a_message_with_odd_properties_stops_no_worker(
    service: Service, site: Site, properties: bytes
) -> None:
    api, worker = started(service.api(), service.worker())
    publish_with(service, properties, a_message(site.url("/odd")))
    for number in range(20):
        assert service.post(api, site.url(f"/page/{number}")).status_code == 202
    assert_nothing_is_lost(service, site)
    assert not worker.events("rmq_connection_lost")


def test_fifty_copies_of_a_message_are_one_fetch(service: Service, site: Site) -> None:
    worker = service.worker(WORKER_CONCURRENCY="50").start()
    url = site.url("/held/page")
    publish(service, [a_message(url)] * 50)
    worker.wait_for_event("request_coalesced", count=49)
    site.release()
    assert_nothing_is_lost(service, site)
    assert site.hits["/held/page"] == 1


def test_retries_mature_while_the_request_queue_is_full(service: Service, site: Site) -> None:
    settings = {"BROKER_QUEUE_MAX_LENGTH": "5", "WORKER_CONCURRENCY": "1"}
    api, worker = started(service.api(**settings), service.worker(**settings))
    site.failing = True
    failing = [site.url(f"/failing/{n}") for n in range(4)]
    for url in failing:
        assert service.post(api, url).status_code == 202
        worker.wait_for_event("metadata_retryable_failure", url=url)
    site.failing = False
    held = {site.url(f"/held/{n}"): "" for n in range(30)}
    accepted = {url: "" for url in held if service.post(api, url).status_code == 202}
    assert len(accepted) < len(held)
    eventually(lambda: service.queue("retries").ready, lambda ready: ready >= 3)
    site.release()
    assert_nothing_is_lost(service, site)


def test_a_retry_that_is_refused_is_offered_again_before_the_acknowledgement(
    service: Service, site: Site
) -> None:
    settings = {"WORKER_RETRY_DELAYS_SECONDS": "3", "WORKER_CONCURRENCY": "1"}
    api, worker = started(service.api(**settings), service.worker(**settings))
    site.failing = True
    urls = [site.url("/failing/1"), site.url("/failing/2")]
    with retries_refused(service):
        for url in urls:
            service.post(api, url)
        worker.wait_for_event("publish_failed", reason="queue_rejected", count=2)
        assert len(worker.events("metadata_retryable_failure")) == 1
        site.failing = False
        assert [service.ended(api, url)["attempts"] for url in urls] == [2, 2]
        assert_nothing_is_lost(service, site)


def test_a_worker_killed_while_its_retry_is_refused_loses_nothing(
    service: Service, site: Site
) -> None:
    settings = {"WORKER_RETRY_DELAYS_SECONDS": "10", "WORKER_CONCURRENCY": "1"}
    api, worker = started(service.api(**settings), service.worker(**settings))
    site.failing = True
    urls = [site.url("/failing/1"), site.url("/failing/2")]
    with retries_refused(service):
        for url in urls:
            service.post(api, url)
        worker.wait_for_event("publish_failed", reason="queue_rejected")
        worker.kill()
    site.failing = False
    worker.start()
    # The retry of the second page was never published: its first attempt is made again.
    assert [service.ended(api, url)["attempts"] for url in urls] == [2, 1]
    assert_nothing_is_lost(service, site)


def test_a_queue_that_is_deleted_is_declared_again(service: Service, site: Site) -> None:
    api = service.api().start()
    service.rabbitmq.ctl("delete_queue", f"{service.name}.requests")
    assert service.post(api, site.url("/page")).status_code == 503
    api.wait_for_event("publish_failed", reason="unroutable")
    eventually(lambda: service.post(api, site.url("/page")).status_code, lambda code: code == 202)


def test_a_queue_that_vanished_with_the_connection_is_declared_before_ready(
    service: Service, site: Site
) -> None:
    api = service.api().start()
    service.rabbitmq.ctl("delete_queue", f"{service.name}.requests")
    service.rabbitmq.ctl("close_all_connections", "--global", "lost")
    api.wait_for_event("rmq_reconnected")
    assert service.post(api, site.url("/page")).status_code == 202
    assert service.queue("requests").ready == 1
