"""`/metrics` of both processes after some work, read as Prometheus reads them."""

from tests.messages import publish
from tests.scrape import Scrape
from tests.service import Service, eventually, started
from tests.site import Site


def test_both_processes_count_what_they_did(service: Service, site: Site) -> None:
    api, worker = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="2"))
    for path in ("/page", "/status/503"):
        service.post(api, site.url(path))
    publish(service, [b"{"])
    for path in ("/page", "/status/503"):
        service.ended(api, site.url(path))
    eventually(lambda: service.queue("dead").ready, lambda count: count == 1)

    seen = Scrape(api)
    posted = {"method": "POST", "route": "/metadata", "status": "202"}
    assert seen("page_metadata_http_request_seconds_count", **posted) == 2
    assert seen("page_metadata_publish_seconds_count", outcome="success") == 2
    assert seen("page_metadata_publish_seconds_count", outcome="queue_rejected") == 0
    state = {"page_metadata_publisher_state": "READY"}
    assert seen("page_metadata_publisher_state", **state) == 1
    assert seen("page_metadata_publisher_ready") == 1

    seen = Scrape(worker)
    assert seen("page_metadata_fetch_seconds_count", outcome="2xx", error_kind="") == 1
    assert seen("page_metadata_fetch_seconds_count", outcome="5xx", error_kind="") == 2
    assert seen("page_metadata_body_bytes_count") == 3
    assert seen("page_metadata_attempts_bucket", le="1.0") == 2
    assert seen("page_metadata_attempts_count") == 3
    assert seen("page_metadata_retries_total", delay_seconds="1") == 1
    assert seen("page_metadata_outcomes_total", outcome="completed") == 1
    assert seen("page_metadata_outcomes_total", outcome="retry") == 1
    failed = {"outcome": "failed", "error_kind": "http_status"}
    assert seen("page_metadata_outcomes_total", **failed) == 1
    assert seen("page_metadata_dead_letters_total", reason="malformed") == 1
    assert seen("page_metadata_pages_in_flight") == 0
    assert seen("page_metadata_worker_slots") == 16
    # The page that is tried again is claimed and ended twice, one after the other. The writes of
    # the other page may have gone along with these.
    writes = {"command": "update", "outcome": "success"}
    assert (seen("page_metadata_database_seconds_count", **writes) or 0) >= 4


def test_both_processes_show_the_messages_and_consumers_of_each_queue(
    service: Service, site: Site
) -> None:
    api = service.api().start()
    requests = f"{service.name}.requests"
    for n in range(3):
        service.post(api, site.url(f"/held/{n}"))
    assert Scrape(api)("page_metadata_queue_messages", queue=requests) == 3
    assert Scrape(api)("page_metadata_queue_consumers", queue=requests) == 0

    worker = service.worker(WORKER_CONCURRENCY="2").start()
    eventually(lambda: Scrape(worker)("page_metadata_pages_in_flight"), lambda count: count == 2)
    for process in (api, worker):
        assert Scrape(process)("page_metadata_queue_messages", queue=requests) == 1
        assert Scrape(process)("page_metadata_queue_consumers", queue=requests) == 1
        assert Scrape(process)("page_metadata_queue_messages", queue=f"{service.name}.dead") == 0


def test_messages_that_needed_no_fetch_are_counted(service: Service, site: Site) -> None:
    api, url = service.api().start(), site.url("/page")
    for _ in range(5):
        service.post(api, url)
    worker = service.worker(WORKER_CONCURRENCY="1").start()
    eventually(lambda: Scrape(worker)("page_metadata_coalesced_total"), lambda count: count == 4)
    assert Scrape(worker)("page_metadata_coalesced_total", reason="answered") == 4
    assert site.hits["/page"] == 1
