"""A bound on how many pages of one host a worker fetches in a minute, with the real broker."""

import time
from typing import Any

from tests.clocks import a_clock
from tests.service import Service, eventually, started
from tests.site import Site, serving

THREE = {"FETCH_PER_HOST_PER_MINUTE": "3"}


def ask_for_ten(service: Service, api: Any, site: Site) -> list[str]:
    urls = [site.url(f"/page/{number}") for number in range(10)]
    for url in urls:
        assert service.post(api, url).status_code == 202
    return urls


def test_pages_beyond_the_bound_are_put_off_their_attempts_unspent_and_others_go_on(
    service: Service, site: Site
) -> None:
    api, worker = started(service.api(), service.worker(**THREE))
    ask_for_ten(service, api, site)
    first = worker.wait_for_event("request_deferred")
    assert first["reason"].startswith(
        "FETCH_PER_HOST_PER_MINUTE is 3, and so many fetches began at 127.0.0.1 within a minute; "
        "the next one may begin in "
    )
    with serving("127.0.0.2") as other:
        service.post(api, other.url("/page"))
        service.ended(api, other.url("/page"))
    seconds, before = 4, len(worker.events("request_deferred"))
    time.sleep(seconds)
    # Each of the seven came back once a second, as the one delay of this deployment says.
    assert 7 <= len(worker.events("request_deferred")) - before <= 7 * (seconds + 2)
    # In the first seconds of the next minute one more may be fetched.
    assert 3 <= sum(site.hits.values()) <= 4
    put_off = list(service.pages.find({"status": {"$ne": "COMPLETED"}}))
    assert len(put_off) == 10 - sum(site.hits.values())
    # An attempt is counted when it is claimed, and taken back when it is put off.
    eventually(
        lambda: service.pages.count_documents({"processing.attempts": 0}),
        lambda count: count == len(put_off),
    )
    assert not worker.events("metadata_retryable_failure")


def test_all_pages_beyond_the_bound_are_fetched_in_time(service: Service, site: Site) -> None:
    """The clock of the worker runs so fast that a minute is over in a second."""
    api, worker = started(service.api(), service.worker(**THREE, **a_clock("+0 x60")))
    urls = ask_for_ten(service, api, site)
    pages = [service.ended(api, url, within=60) for url in urls]
    assert {(page["status"], page["attempts"]) for page in pages} == {("COMPLETED", 1)}
    assert sum(site.hits.values()) == 10
    assert worker.events("request_deferred")
    eventually(lambda: service.queue("requests").ready, lambda count: count == 0)
