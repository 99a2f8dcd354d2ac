"""The main job on real servers: POST, queue, worker, record, GET."""

import json
from concurrent.futures import ThreadPoolExecutor

from dirty_equals import IsPartialDict, IsPositiveFloat, IsStr

from tests.service import Service, eventually, started
from tests.site import Site, serving


def test_a_page_travels_from_post_to_get(service: Service, site: Site) -> None:
    api, url = service.api().start(), site.url("/page")

    answer = service.post(api, url.replace("http", "HTTP") + "#fragment")
    assert answer.status_code == 202
    assert answer.json() == {
        "status": "QUEUED",
        "url": url,
        "request_id": IsStr(regex=r"[0-9a-f-]{36}"),
    }
    assert answer.headers["location"].startswith("/metadata?url=http%3A%2F%2F127.0.0.1")
    assert service.queue("requests").ready == 1
    assert service.get(api, url).json()["status"] == "QUEUED"

    worker = service.worker().start()
    page = service.ended(api, url)
    assert page == IsPartialDict(status="COMPLETED", url=url, attempts=1)
    assert page["request_id"] == answer.json()["request_id"]
    assert page["metadata"] == IsPartialDict(
        final_url=url,
        status_code=200,
        http_version="HTTP/1.1",
        page_source="<!doctype html><title>/page</title>",
        content_type="text/html",
        remote_address="127.0.0.1",
        elapsed_ms=IsPositiveFloat,
    )
    assert {"name": "set-cookie", "value": "a=b; Path=/; HttpOnly"} in page["metadata"]["headers"]
    assert page["metadata"]["cookies"] == [IsPartialDict(name="a", value="b", http_only=True)]
    assert service.pages.count_documents({}) == 1
    worker.wait_for_event("metadata_final_state", status="COMPLETED", url=url)
    assert service.queue("requests").ready == 0
    eventually(service.unacknowledged, lambda count: count == 0)


def test_the_service_does_the_same_on_the_other_driver(service: Service, site: Site) -> None:
    on_pymongo = {"DATABASE_DRIVER": "pymongo"}
    api, worker = started(service.api(**on_pymongo), service.worker(**on_pymongo))
    unknown = service.get(api, site.url("/read"))
    assert (unknown.status_code, unknown.json()["status"]) == (202, "QUEUED")
    service.post(api, site.url("/page"))
    for path in ("/read", "/page"):
        assert service.ended(api, site.url(path)) == IsPartialDict(status="COMPLETED", attempts=1)
    assert len(service.listed(api, status="COMPLETED")) == 2
    assert service.delete(api, site.url("/page")).status_code == 204
    assert service.get(api, site.url("/page"), queue="false").status_code == 404
    for process, stopped in ((api, "api_stopped"), (worker, "worker_stopped")):
        process.stop()
        assert process.events(stopped)
        assert not process.events("log", level="ERROR")


def test_a_page_that_fails_for_good_says_why(service: Service, site: Site) -> None:
    api, _ = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="2"))
    url = site.url("/status/503")
    service.post(api, url)
    page = service.ended(api, url)
    assert page == IsPartialDict(
        status="FAILED_PERMANENT",
        attempts=2,
        error={"kind": "http_status", "message": "the server answered 503 Service Unavailable"},
        metadata=IsPartialDict(status_code=503),
    )
    assert site.hits["/status/503"] == 2


def test_a_failing_page_waits_for_its_delay_between_attempts(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="3"))
    service.post(api, site.url("/status/503"))
    worker.wait_for_event("metadata_retryable_failure", count=1, delay_seconds=1.0)
    pending = service.get(api, site.url("/status/503"))
    assert (pending.status_code, pending.json()["status"]) == (202, "FAILED_RETRYABLE")
    assert int(pending.headers["retry-after"]) >= 1
    service.ended(api, site.url("/status/503"))
    assert site.hits["/status/503"] == 3


def test_a_private_address_is_not_fetched_unless_allowed(service: Service, site: Site) -> None:
    api, _ = started(service.api(), service.worker(FETCH_ALLOWED_NETWORKS=""))
    service.post(api, site.url("/page"))
    page = service.ended(api, site.url("/page"))
    assert page["error"]["kind"] == "blocked_address"
    assert not site.hits


def test_a_slow_host_does_not_keep_the_others_waiting(service: Service, site: Site) -> None:
    api = service.api().start()
    # As many as the worker has slots: without a limit they would take them all.
    held = [site.url(f"/held/{number}") for number in range(2)]
    with serving("127.0.0.2") as other_site:
        other = other_site.url("/page")
        for url in [*held, other]:
            service.post(api, url)
        worker = service.worker(WORKER_CONCURRENCY="2", FETCH_PER_HOST_CONCURRENCY="1").start()
        worker.wait_for_event("metadata_final_state", url=other)
    assert worker.events("request_deferred")[0]["reason"] == (
        "all 1 connections to 127.0.0.1 are in use"
    )
    site.release()
    assert [service.ended(api, url)["attempts"] for url in held] == [1] * 2
    assert sum(site.hits.values()) == 2


def test_forty_callers_of_a_missing_page_queue_it_once(service: Service, site: Site) -> None:
    api = service.api().start()
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: service.get(api, site.url("/page")), range(40)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["status"] for answer in answers} == {"QUEUED"}
    assert service.queue("requests").ready == 1


def test_a_full_queue_is_answered_503_and_takes_requests_again(
    service: Service, site: Site
) -> None:
    limits = {"BROKER_QUEUE_MAX_LENGTH": "3"}
    api = service.api(**limits).start()
    answers = [service.post(api, site.url(f"/page/{n}")) for n in range(10)]
    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    # A quorum queue's limit is approximate: a confirmed message may still be on its way in.
    assert 3 <= len(accepted) <= 5
    assert {answer.status_code for answer in refused} == {503}
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert int(refused[0].headers["retry-after"]) > 0
    api.wait_for_event("publish_failed", reason="queue_rejected")
    service.worker(**limits).start()
    eventually(
        lambda: service.post(api, site.url("/page/more")).status_code, lambda code: code == 202
    )


def test_a_read_through_that_cannot_be_queued_leaves_no_record(
    service: Service, site: Site
) -> None:
    api = service.api(BROKER_QUEUE_MAX_LENGTH="1").start()
    eventually(lambda: service.post(api, site.url("/page")).status_code, lambda code: code == 503)
    assert service.get(api, site.url("/other")).status_code == 503
    assert service.pages.count_documents({"url": site.url("/other")}) == 0


def test_a_started_worker_is_ready(service: Service) -> None:
    worker = service.worker().start()
    assert service.is_ready(worker)
    worker.wait_for_event("worker_started")


def test_every_line_that_a_process_logs_is_an_event(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker())
    service.post(api, site.url("/page"))
    service.ended(api, site.url("/page"))
    for process, name in ((api, "api"), (worker, "worker")):
        assert process.terminate() == 0
        events = [json.loads(line) for line in process.log.read_text().splitlines()]
        assert {event["service_name"] for event in events} == {name}
        assert all({"timestamp", "level", "event"} <= event.keys() for event in events)
