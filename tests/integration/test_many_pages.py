"""Many pages in one call, on real servers: batches, and lists of what came of them."""

from tests.load import assert_nothing_is_lost
from tests.service import Service, eventually, started
from tests.site import Site


def test_a_batch_is_fetched_and_listed(service: Service, site: Site) -> None:
    api, _ = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="1"))
    urls = [site.url(f"/page/{number}") for number in range(300)]
    items = service.post_batch(api, [*urls, site.url("/status/503")])
    assert [it["url"] for it in items] == [*urls, site.url("/status/503")]
    assert len({it["request_id"] for it in items}) == 301
    completed = eventually(
        lambda: service.listed(api, status="COMPLETED", limit=100),
        lambda found: len(found) == 300,
        within=60,
    )
    assert {it["url"] for it in completed} == set(urls)
    assert {it["metadata"]["status_code"] for it in completed} == {200}
    assert not any("page_source" in it["metadata"] for it in completed)
    times = [it["created_at"] for it in completed]
    assert times == sorted(times, reverse=True)
    (failed,) = eventually(lambda: service.listed(api, status="FAILED_PERMANENT"), bool)
    assert (failed["url"], failed["error"]["kind"]) == (site.url("/status/503"), "http_status")
    assert service.listed(api, host="127.0.0.1", limit=100, status="COMPLETED") == completed
    by_title = service.listed(api, q="page/7", limit=5)
    assert {it["url"] for it in by_title} == {site.url(f"/page/{n}") for n in (7, *range(70, 80))}
    assert len(service.listed(api, q="127.0", limit=100)) == 301
    assert_nothing_is_lost(service, site, may_fail=[site.url("/status/503")])


def test_pages_beyond_the_bound_of_the_queue_have_a_problem_and_the_others_are_fetched(
    service: Service, site: Site
) -> None:
    api = service.api(BROKER_QUEUE_MAX_LENGTH="50").start()
    items = service.post_batch(api, [site.url(f"/page/{number}") for number in range(1000)])
    refused = [it["problem"] for it in items if "problem" in it]
    # The bound of a quorum queue is not exact while many publish at once.
    assert 50 <= len(items) - len(refused) < 400
    assert {(it["status"], it["detail"]) for it in refused} == {(503, "the queue is full")}
    service.worker(BROKER_QUEUE_MAX_LENGTH="50").start()
    assert_nothing_is_lost(service, site)


def test_a_page_that_is_fresh_enough_is_not_fetched_again(service: Service, site: Site) -> None:
    api, _ = started(service.api(), service.worker())
    first = service.post_batch(api, [site.url("/a"), site.url("/b")])
    eventually(lambda: service.listed(api, status="COMPLETED"), lambda found: len(found) == 2)
    again = service.post_batch(api, [site.url("/a"), site.url("/c")], max_age=3600)
    assert again[0] == {**first[0], "status": "COMPLETED"}
    assert again[1]["status"] == "QUEUED"
    eventually(lambda: service.listed(api, status="COMPLETED"), lambda found: len(found) == 3)
    assert site.hits == {"/a": 1, "/b": 1, "/c": 1}
