"""Records that were left standing, refreshes, and pages that can't be kept as they are."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.load import assert_nothing_is_lost
from tests.service import Service, eventually, started
from tests.site import Site

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def a_record(url: str, status: str, lease_expires_at: datetime | None) -> dict[str, Any]:
    return {
        "url": url,
        "status": status,
        "metadata": None,
        "processing": {
            "attempts": 1,
            "last_request_id": str(uuid4()),
            "last_attempt_at": LONG_AGO,
            "lease_expires_at": lease_expires_at,
            "last_error": None,
        },
        "created_at": LONG_AGO,
        "updated_at": LONG_AGO,
    }


@pytest.mark.parametrize(
    ("status", "lease_expires_at"),
    [("QUEUED", None), ("FAILED_RETRYABLE", None), ("IN_PROGRESS", LONG_AGO)],
)
def test_a_record_left_standing_is_taken_up_by_the_next_read_once(
    service: Service, site: Site, status: str, lease_expires_at: datetime | None
) -> None:
    api, url = service.api().start(), site.url("/page")
    service.pages.insert_one(a_record(url, status, lease_expires_at))
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: service.get(api, url), range(40)))
    assert {answer.status_code for answer in answers} == {202}
    assert service.queue("requests").ready == 1
    service.worker().start()
    assert service.ended(api, url)["status"] == "COMPLETED"
    assert_nothing_is_lost(service, site)


def test_a_record_at_work_is_left_alone(service: Service, site: Site) -> None:
    api, url = service.api().start(), site.url("/page")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    service.pages.insert_one(a_record(url, "IN_PROGRESS", soon))
    assert service.get(api, url).status_code == 202
    assert service.queue("requests").ready == 0


@pytest.mark.representative
def test_a_refresh_keeps_the_old_result_readable_and_a_failed_one_too(
    service: Service, site: Site
) -> None:
    api, worker = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="2"))
    url = site.url("/failing/page")
    service.post(api, url)
    first = service.ended(api, url)
    site.failing = True
    request_id = service.post(api, url).json()["request_id"]
    worker.wait_for_event("metadata_retryable_failure", request_id=request_id)
    assert service.get(api, url).json()["metadata"] == first["metadata"]
    worker.wait_for_event("metadata_final_state", request_id=request_id, status="COMPLETED")
    assert service.get(api, url).json()["metadata"] == first["metadata"]
    record = service.pages.find_one({"url": url})
    assert record is not None
    assert record["processing"]["last_error"]["kind"] == "http_status"

    site.failing = False
    service.post(api, url)
    eventually(
        lambda: service.get(api, url).json()["metadata"]["fetched_at"],
        lambda fetched_at: fetched_at != first["metadata"]["fetched_at"],
    )


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/big/17000000", "not_storable"), ("/status/503/big/17000000", "http_status")],
)
def test_a_page_over_the_limit_of_a_document_ends_in_a_record(
    service: Service, site: Site, path: str, kind: str
) -> None:
    big = {"FETCH_MAX_BODY_BYTES": "20000000", "WORKER_MAX_ATTEMPTS": "1"}
    api, _ = started(service.api(), service.worker(**big))
    url = site.url(path)
    service.post(api, url)
    page = service.ended(api, url)
    assert (page["status"], page["error"]["kind"]) == ("FAILED_PERMANENT", kind)
    assert_nothing_is_lost(service, site, may_fail=[url])


def test_a_page_with_nul_bytes_is_kept(service: Service, site: Site) -> None:
    api, _ = started(service.api(), service.worker())
    url = site.url("/nul")
    service.post(api, url)
    assert "\0" in service.ended(api, url)["metadata"]["page_source"]
