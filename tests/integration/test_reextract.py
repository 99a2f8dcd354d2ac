"""`pagemeta reextract` on a real database."""

from datetime import timedelta
from typing import Any

import pytest
from bson import BSON

from app.cli import reextract as command
from app.extractor.document import EXTRACTOR_VERSION, extract
from app.store.rereading import Head, StoredPages
from tests.command_line import pagemeta
from tests.service import Service, started
from tests.site import serving

MAX_RECORD_BYTES = 16 * 1024 * 1024

PAGE = "<!doctype html><title>As stored</title><p>Text"


@pytest.fixture(scope="module")
def record(shared_service: Service) -> dict[str, Any]:
    """A record as a worker writes it, of an HTML page that nobody has read."""
    api, worker = started(shared_service.api(), shared_service.worker())
    with serving() as site:
        shared_service.post(api, site.url("/slow/1/1"))
        worker.wait_for_event("metadata_persisted")
    (record,) = shared_service.pages.find({}, {"_id": False})
    for process in (api, worker):
        process.stop()
    record["metadata"] |= {"content_type": "text/html", "page_source": PAGE, "document": None}
    return record


def add(service: Service, record: dict[str, Any], path: str, **metadata: Any) -> None:
    """Add a copy of the record under another URL."""
    service.pages.insert_one(
        record | {"url": f"http://stored.test/{path}", "metadata": record["metadata"] | metadata}
    )


def titles(service: Service) -> dict[str, str | None]:
    stored = service.pages.find({"url": {"$regex": "stored.test"}}).sort("url")
    return {
        page["url"].rsplit("/", 1)[1]: (page["metadata"]["document"] or {}).get("title")
        for page in stored
    }


def read_by(version: int, title: str = "As read before") -> dict[str, Any]:
    return {"document": {"title": title, "extractor_version": version}}


def test_pages_read_by_an_older_version_or_by_none_are_read_from_their_stored_source(
    service: Service, record: dict[str, Any]
) -> None:
    add(service, record, "never")
    add(service, record, "old", **read_by(EXTRACTOR_VERSION - 1))
    add(service, record, "current", **read_by(EXTRACTOR_VERSION))
    add(service, record, "newer", **read_by(EXTRACTOR_VERSION + 1))
    add(service, record, "not-html", content_type="application/json")
    ran = pagemeta(service, "reextract", "--json")
    assert (ran.exit_code, ran.stdout) == (0, '{"read": 2, "changed_meanwhile": 0, "failed": 0}\n')
    assert titles(service) == {
        "never": "As stored",
        "old": "As stored",
        "current": "As read before",
        "newer": "As read before",
        "not-html": None,
    }
    assert pagemeta(service, "reextract").stdout == "0 pages read\n"


def test_with_all_every_page_is_read_anew(service: Service, record: dict[str, Any]) -> None:
    add(service, record, "current", **read_by(EXTRACTOR_VERSION))
    assert pagemeta(service, "reextract", "--all").stdout.startswith("1 pages read")
    assert titles(service) == {"current": "As stored"}


def test_more_records_than_one_batch_has_are_all_read(
    service: Service, record: dict[str, Any]
) -> None:
    for number in range(205):
        add(service, record, f"{number:03}")
    assert pagemeta(service, "reextract").stdout == "205 pages read\n"


def test_readers_see_that_the_record_has_changed(service: Service, record: dict[str, Any]) -> None:
    add(service, record, "page")
    (before,) = service.pages.find({"url": "http://stored.test/page"})
    pagemeta(service, "reextract")
    (after,) = service.pages.find({"url": "http://stored.test/page"})
    assert after["processing"]["revision"] == before["processing"]["revision"] + 1
    assert after["updated_at"] > before["updated_at"]


def test_a_page_that_was_fetched_meanwhile_keeps_what_the_fetch_brought(
    service: Service, record: dict[str, Any]
) -> None:
    add(service, record, "page")
    (stored,) = service.pages.find({"url": "http://stored.test/page"})
    pages = StoredPages(service.pages)
    source = pages.source(Head(stored["_id"], "text/html", None))
    assert source is not None
    later = source.fetched_at + timedelta(seconds=1)
    new = {"metadata.fetched_at": later, "metadata.document": {"title": "As fetched"}}
    service.pages.update_one({"_id": stored["_id"]}, {"$set": new})
    assert not pages.keep(source, extract(source.page_source, source.final_url))
    assert titles(service) == {"page": "As fetched"}


def test_a_record_that_cannot_be_read_is_named_and_the_others_are_read(
    service: Service, record: dict[str, Any]
) -> None:
    add(service, record, "1", headers="none")
    add(service, record, "2")
    ran = pagemeta(service, "reextract")
    assert ran.exit_code == 1
    assert ran.stdout == "1 pages read, 1 failed: their documents are as they were\n"
    assert "headers" in ran.stderr
    assert titles(service) == {"1": None, "2": "As stored"}


def test_a_record_that_would_get_too_large_is_named_and_keeps_its_document(
    service: Service, record: dict[str, Any]
) -> None:
    add(service, record, "1", page_source="")
    (page,) = service.pages.find({"url": "http://stored.test/1"})
    size = len(BSON.encode(page, codec_options=service.pages.codec_options))
    room = MAX_RECORD_BYTES - size - 100  # a document takes more than that
    source = PAGE + " " * (room - len(PAGE))
    service.pages.update_one({"_id": page["_id"]}, {"$set": {"metadata.page_source": source}})
    ran = pagemeta(service, "reextract")
    assert (ran.exit_code, ran.stdout.split(",")[1]) == (
        1,
        " 1 failed: their documents are as they were\n",
    )
    assert str(page["_id"]) in ran.stderr
    assert titles(service) == {"1": None}


def test_what_an_interrupted_run_has_left_is_read_by_the_next_one(
    service: Service, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(service, record, "1")
    add(service, record, "2", page_source="<title>Interrupted here</title>")

    def extract_or_stop(html: str, *others: Any) -> Any:
        if "Interrupted" in html:
            raise KeyboardInterrupt
        return extract(html, *others)

    with monkeypatch.context() as patch:
        patch.setattr(command, "extract", extract_or_stop)
        assert pagemeta(service, "reextract").exit_code == 130
    assert titles(service) == {"1": "As stored", "2": None}
    assert pagemeta(service, "reextract").stdout == "1 pages read\n"
    assert titles(service) == {"1": "As stored", "2": "Interrupted here"}


def test_a_database_that_does_not_answer_ends_the_command_with_one_line(service: Service) -> None:
    away = {"DATABASE_URL": "mongodb://127.0.0.1:1/", "DATABASE_TIMEOUT_SECONDS": "0.3"}
    ran = pagemeta(service, "reextract", **away)
    assert ran.exit_code == 2
    assert ran.stderr.startswith("error: MongoDB could not be used: 127.0.0.1:1")
