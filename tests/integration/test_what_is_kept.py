"""What an operator does not want to keep: sources, values of headers, results nobody asks for."""

import json
from typing import Any

import httpx
import pytest

from dev.stack import Api
from tests.command_line import pagemeta
from tests.plain_http import CLIENT
from tests.service import Service, eventually, started
from tests.site import Site

DAY_MILLISECONDS = 86_400_000


def source(api: Api, url: str) -> httpx.Response:
    return CLIENT.get(f"{api.url}/metadata/source", params={"url": url})


def values(page: dict[str, Any], kind: str, name: str) -> list[str]:
    return [it["value"] for it in page["metadata"][kind] if it["name"] == name]


def test_a_page_whose_source_is_not_kept_is_read_dropped_and_known_again(
    service: Service, site: Site
) -> None:
    api, worker = started(service.api(), service.worker(STORE_PAGE_SOURCE="false"))
    url = site.url("/slow/1/page")
    service.post(api, url)
    page = service.ended(api, url)["metadata"]
    assert page["page_source"] is None
    assert (page["document"]["title"], page["charset"]) == ("/slow/1/page", "utf-8")
    assert (page["body_bytes"], len(page["body_sha256"])) == (42, 64)
    answer = source(api, url)
    assert (answer.status_code, answer.json()["type"]) == (
        404,
        "urn:page-metadata:problem:no-page-source",
    )
    assert "STORE_PAGE_SOURCE" in answer.json()["detail"]
    service.post(api, url)
    worker.wait_for_event("metadata_persisted", unchanged=True)
    ran = pagemeta(service, "reextract", "--all", "--json")
    assert (ran.exit_code, json.loads(ran.stdout)) == (
        0,
        {"read": 0, "changed_meanwhile": 1, "failed": 0},
    )
    assert "<title>" not in repr(list(service.pages.find()))


@pytest.mark.parametrize("names", ["A, Server", "set-cookie,SERVER"])
def test_redacted_values_are_nowhere_in_the_database(
    service: Service, site: Site, names: str
) -> None:
    """The site sends the cookie `a=b`, and calls itself BaseHTTP in `Server`."""
    api, worker = started(
        service.api(), service.worker(STORE_REDACTED_HEADERS=names, WORKER_MAX_ATTEMPTS="1")
    )
    for path in ("/moved/page", "/status/503/page"):
        service.post(api, site.url(path))
        worker.wait_for_event("metadata_final_state", url=site.url(path))
        page = service.get(api, site.url(path)).json()
        assert values(page, "headers", "server") == [""]
        assert values(page, "headers", "set-cookie") == [""]
        # The first one was set by the redirect, if there was one.
        assert set(values(page, "cookies", "a")) == {""}
        assert values(page, "headers", "content-type") == ["text/html; charset=utf-8"]
    stored = repr(list(service.pages.find()))
    assert "set-cookie" in stored
    assert "a=b" not in stored
    assert "BaseHTTP" not in stored


def test_a_redacted_validator_is_not_kept_and_the_page_is_fetched_anew(
    service: Service, site: Site
) -> None:
    api, worker = started(service.api(), service.worker(STORE_REDACTED_HEADERS="etag"))
    url = site.url("/tagged/page")
    service.post(api, url)
    service.ended(api, url)
    service.post(api, url)
    worker.wait_for_event("metadata_persisted", unchanged=True)
    assert [hit.if_none_match for hit in site.seen] == [None, None]
    (record,) = service.pages.find()
    assert record["processing"]["validators"] is None
    assert site.etag not in repr(record)


def age(service: Service, days: float) -> None:
    """Make it so many days since any page was asked for."""
    earlier = {"$subtract": ["$asked_at", round(days * DAY_MILLISECONDS)]}
    service.pages.update_many({}, [{"$set": {"asked_at": earlier}}])


def test_a_result_that_nobody_asks_for_is_removed_and_fetched_anew_for_whoever_does(
    service: Service, site: Site
) -> None:
    service.listen()
    kept = {"PAGES_RETENTION_DAYS": "1"}
    api, _ = started(service.api(**kept), service.worker(**kept))
    url = site.url("/page")
    service.post(api, url)
    service.ended(api, url)
    age(service, 1.5)
    assert service.get(api, url, queue="false").status_code == 200  # which keeps it
    eventually(
        lambda: service.pages.count_documents({"$expr": {"$gt": ["$asked_at", "$updated_at"]}}),
        lambda count: count == 1,
    )
    age(service, 2.1)
    eventually(lambda: service.pages.count_documents({}), lambda count: count == 0)
    assert service.get(api, url, queue="false").status_code == 404
    assert service.get(api, url).json()["status"] == "QUEUED"
    assert service.ended(api, url)["status"] == "COMPLETED"
    assert site.hits["/page"] == 2
    assert not api.events("reads_not_noted")
    listener = service.listener
    assert listener is not None
    told = eventually(lambda: list(listener.heard), lambda heard: len(heard) == 2)
    kinds = [json.loads(it.body)["type"] for it in told]
    assert kinds == ["page-metadata.page.completed.v1"] * 2  # nothing tells of the removal


def test_a_refresh_whose_page_is_removed_while_no_worker_runs_is_made_all_the_same(
    service: Service, site: Site
) -> None:
    kept = {"PAGES_RETENTION_DAYS": "1"}
    api, worker = started(service.api(**kept), service.worker(**kept))
    url = site.url("/page")
    service.post(api, url)
    service.ended(api, url)
    worker.stop()
    request_id = service.post(api, url).json()["request_id"]
    age(service, 2.1)
    eventually(lambda: service.pages.count_documents({}), lambda count: count == 0)
    service.worker(**kept).start().wait_for_event("metadata_persisted")
    assert service.request_state(api, request_id)["status"] == "COMPLETED"
    assert site.hits["/page"] == 2
