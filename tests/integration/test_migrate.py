"""`pagemeta migrate` on a real database, with records as version 0.1.0 spelled them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from bson import CodecOptions
from bson.binary import UuidRepresentation
from pymongo.collection import Collection

from app.store.respelling import Respelling
from tests.command_line import pagemeta
from tests.messages import publish
from tests.service import Service, eventually
from tests.site import Site

OLD, NEW = "http://e.test/a/../b", "http://e.test/b"
NOW = datetime.now(UTC)


def collection(service: Service) -> Collection[dict[str, Any]]:
    standard: CodecOptions[Any] = CodecOptions(
        tz_aware=True, uuid_representation=UuidRepresentation.STANDARD
    )
    return service.pages.with_options(codec_options=standard)


def record(
    url: str, status: str = "COMPLETED", *, age: float = 0, title: str = "", **processing: Any
) -> dict[str, Any]:
    checked_at = NOW - timedelta(seconds=age)
    has_ended = status in {"COMPLETED", "FAILED_PERMANENT"}
    return {
        "url": url,
        "host": "e.test",
        "status": status,
        "metadata": {"page_source": title, "fetched_at": checked_at} if title else None,
        "checked_at": checked_at,
        "created_at": checked_at,
        "updated_at": checked_at,
        "processing": {
            "attempts": 1,
            "last_request_id": uuid4(),
            "finished": has_ended,
            "waiting": [],
            "revision": 3,
        }
        | processing,
    }


def stored(service: Service) -> dict[str, dict[str, Any]]:
    return {page["url"]: page for page in collection(service).find()}


def source(page: dict[str, Any]) -> str:
    return str(page["metadata"]["page_source"])


@pytest.fixture
def pages(service: Service) -> Service:
    """A service of which only the database is used."""
    collection(service).create_index("url", unique=True)
    return service


def test_a_record_is_found_and_moved_to_the_canonical_spelling(pages: Service) -> None:
    collection(pages).insert_many([record(OLD, title="old"), record("http://fine.test/")])
    collection(pages).insert_one(record("http://☃.test/é", title="snow"))
    ran = pagemeta(pages, "migrate", "--yes")
    assert ran.exit_code == 0
    assert f"move: {OLD} -> {NEW}" in ran.stdout
    found = stored(pages)
    assert set(found) == {NEW, "http://fine.test/", "http://xn--n3h.test/%C3%A9"}
    assert found["http://xn--n3h.test/%C3%A9"]["host"] == "xn--n3h.test"
    assert found[NEW]["processing"]["revision"] == 4
    for done in (("migrate",), ("migrate", "--dry-run")):
        assert pagemeta(pages, *done).stdout == "Nothing is left to do.\n"


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(pages: Service) -> None:
    collection(pages).insert_many([record(OLD), record(NEW), record("http://0x7f.1/")])
    collection(pages).insert_one(record("http://e.test:99999/"))
    before = stored(pages)
    told = pagemeta(pages, "migrate", "--dry-run").stdout
    assert "1 record to move to the canonical spelling of the URL\n" in told
    ran = pagemeta(pages, "migrate", "--dry-run", "--json")
    assert (ran.exit_code, json.loads(ran.stdout)) == (
        0,
        {"move": 1, "merge": 1, "invalid": 1, "busy": 0, "index": 4, "list": 4, "date": 4},
    )
    assert stored(pages) == before


def test_records_that_do_not_say_when_they_were_asked_for_are_dated_now(pages: Service) -> None:
    dated = record("http://dated.test/") | {"asked_at": NOW - timedelta(days=3)}
    undated = [record(f"http://e.test/{n}") for n in range(1005)]
    undated.append(record("http://null.test/") | {"asked_at": None})
    collection(pages).insert_many([dated, *undated])
    told = pagemeta(pages, "migrate", "--dry-run").stdout
    assert told == (
        "4 indexes to make, so that the inventory can be listed\n"
        "1007 records to give the terms under which a search finds them\n"
        "1006 records to be dated as asked for now, so that PAGES_RETENTION_DAYS applies to them\n"
    )
    assert pagemeta(pages, "migrate", "--yes").exit_code == 0
    found = {page["url"]: page["asked_at"] for page in collection(pages).find()}
    assert found.pop("http://dated.test/") < NOW - timedelta(days=2)
    assert all(asked_at >= NOW - timedelta(seconds=5) for asked_at in found.values())
    assert len(found) == 1006
    assert pagemeta(pages, "migrate").stdout == "Nothing is left to do.\n"


def test_the_record_that_stays_was_asked_for_when_either_was(pages: Service) -> None:
    for url, days, age in ((OLD, 1, 100), (NEW, 3, 0)):
        asked_at = {"asked_at": NOW - timedelta(days=days)}
        collection(pages).insert_one(record(url, title="x", age=age) | asked_at)
    assert pagemeta(pages, "migrate", "--yes").exit_code == 0
    (page,) = stored(pages).values()
    assert abs(page["asked_at"] - (NOW - timedelta(days=1))) < timedelta(seconds=1)


def test_a_url_is_shown_as_it_is_whatever_it_looks_like(pages: Service) -> None:
    collection(pages).insert_one(record("http://E.test/a?[/x][bold]\x1b[31m"))
    ran = pagemeta(pages, "migrate", "--dry-run")
    assert ran.exit_code == 0
    assert "invalid: http://E.test/a?[/x][bold]\ufffd[31m" in ran.stdout


def test_without_an_answer_nothing_is_changed(pages: Service) -> None:
    collection(pages).insert_one(record(OLD))
    assert pagemeta(pages, "migrate", typed="n\n").exit_code == 1
    assert set(stored(pages)) == {OLD}


@pytest.mark.parametrize(
    ("age_of_old", "age_of_new", "stays"), [(10, 20, "old"), (20, 10, "new"), (10, 10, "new")]
)
def test_of_two_results_the_newer_one_stays(
    pages: Service, age_of_old: float, age_of_new: float, stays: str
) -> None:
    collection(pages).insert_one(record(OLD, title="old", age=age_of_old))
    collection(pages).insert_one(record(NEW, title="new", age=age_of_new))
    assert pagemeta(pages, "migrate", "--yes").exit_code == 0
    found = stored(pages)
    assert set(found) == {NEW}
    assert source(found[NEW]) == stays


@pytest.mark.parametrize("other", ["QUEUED", "FAILED_PERMANENT"])
@pytest.mark.parametrize("url_of_result", [OLD, NEW])
def test_a_result_stays_whatever_the_other_record_is(
    pages: Service, url_of_result: str, other: str
) -> None:
    (url_of_other,) = {OLD, NEW} - {url_of_result}
    collection(pages).insert_one(record(url_of_result, title="result", age=100))
    collection(pages).insert_one(record(url_of_other, other))
    pagemeta(pages, "migrate", "--yes")
    found = stored(pages)
    assert set(found) == {NEW}
    assert (source(found[NEW]), found[NEW]["status"]) == ("result", "COMPLETED")


@pytest.mark.parametrize("url_of_result", [OLD, NEW])
def test_requests_that_wait_in_the_record_that_goes_wait_in_the_one_that_stays(
    pages: Service, url_of_result: str
) -> None:
    (url_of_other,) = {OLD, NEW} - {url_of_result}
    kept, waiting, answered = uuid4(), uuid4(), uuid4()
    covered = [{"request_id": answered, "outcome": 0}]
    collection(pages).insert_one(
        record(url_of_result, title="result", waiting=[kept], covered=covered)
    )
    queued = record(url_of_other, "QUEUED", waiting=[waiting, answered])
    collection(pages).insert_one(queued)
    pagemeta(pages, "migrate", "--yes")
    (page,) = stored(pages).values()
    last: UUID = queued["processing"]["last_request_id"]
    assert set(page["processing"]["waiting"]) == {kept, waiting, last}
    assert page["updated_at"] > NOW


@pytest.mark.parametrize("url_of_claimed", [OLD, NEW])
def test_a_page_that_is_being_fetched_is_left_for_the_next_run(
    pages: Service, url_of_claimed: str
) -> None:
    held = {"claim": uuid4(), "lease_expires_at": NOW + timedelta(hours=1)}
    collection(pages).insert_one(record(OLD, title="old"))
    collection(pages).insert_one(record(NEW, title="new"))
    change = {f"processing.{name}": value for name, value in held.items()}
    collection(pages).update_one({"url": url_of_claimed}, {"$set": change})
    ran = pagemeta(pages, "migrate", "--yes")
    assert ran.exit_code == 1
    assert "1 record left, because a fetch was under way" in ran.stdout
    assert set(stored(pages)) == {OLD, NEW}
    over = {"processing.lease_expires_at": NOW - timedelta(minutes=5)}
    collection(pages).update_one({"url": url_of_claimed}, {"$set": over})
    assert pagemeta(pages, "migrate", "--yes").exit_code == 0
    assert set(stored(pages)) == {NEW}


def test_a_record_that_changes_during_the_run_is_left_for_the_next_one(pages: Service) -> None:
    collection(pages).insert_one(record(OLD, title="old"))
    collection(pages).insert_one(record(NEW, title="new", age=100))
    respelling = Respelling(_Changing(collection(pages)))  # type: ignore[arg-type]  # a stand-in
    assert not respelling.move(OLD, NEW)
    assert set(stored(pages)) == {OLD, NEW}
    assert Respelling(collection(pages)).move(OLD, NEW)
    assert source(stored(pages)[NEW]) == "old"


class _Changing:
    """A collection in which somebody changes every record right after it was read."""

    def __init__(self, pages: Any) -> None:
        self._pages = pages

    def find_one(self, matching: Any, fields: Any) -> Any:
        found = self._pages.find_one(matching, fields)
        self._pages.update_one(matching, {"$inc": {"processing.revision": 1}})
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pages, name)


class Stopped(Exception):
    """The run was stopped."""


class _Stopping:
    """A collection of which one call, the `number`th that writes, stops the run."""

    def __init__(self, pages: Any, number: int) -> None:
        self._pages = pages
        self._left = number

    def __getattr__(self, name: str) -> Any:
        if name in {"update_one", "delete_one"}:
            self._left -= 1
            if not self._left:
                raise Stopped
        return getattr(self._pages, name)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_run_that_is_stopped_between_two_writes_is_completed_by_the_next(
    pages: Service, number: int
) -> None:
    waiting = uuid4()
    collection(pages).insert_one(record(OLD, title="newer result"))
    collection(pages).insert_one(record(NEW, title="older result", age=100, waiting=[waiting]))
    with pytest.raises(Stopped):
        Respelling(_Stopping(collection(pages), number)).move(OLD, NEW)  # type: ignore[arg-type]  # a stand-in
    assert pagemeta(pages, "migrate", "--yes").exit_code == 0
    (page,) = stored(pages).values()
    assert (page["url"], source(page)) == (NEW, "newer result")
    assert page["processing"]["waiting"] == [waiting]


def test_many_records_in_one_run(pages: Service) -> None:
    collection(pages).insert_many(record(f"http://e.test/x/../{n}") for n in range(1005))
    assert json.loads(pagemeta(pages, "migrate", "--yes", "--json").stdout)["move"] == 1005
    assert set(stored(pages)) == {f"http://e.test/{n}" for n in range(1005)}


def test_a_request_that_was_queued_under_the_old_spelling_ends_under_the_canonical_one(
    service: Service, site: Site
) -> None:
    """An upgrade with messages in the queues: what waits in the moved record has its end."""
    old, new = site.url("/x/../slow/1/1"), site.url("/slow/1/1")
    api = service.api().start()
    request_id = uuid4()
    collection(service).insert_one(
        record(old, "QUEUED", last_request_id=request_id, waiting=[request_id], attempts=0)
    )
    message = {"url": old, "request_id": str(request_id), "requested_at": NOW.isoformat()}
    publish(service, [json.dumps(message).encode()])
    assert pagemeta(service, "migrate", "--yes").exit_code == 0
    worker = service.worker().start()
    worker.wait_for_event("metadata_persisted")
    assert service.get(api, new).json()["status"] == "COMPLETED"
    eventually(
        lambda: [page["url"] for page in collection(service).find()], lambda urls: urls == [new]
    )
    (page,) = stored(service).values()
    assert page["processing"]["waiting"] == []
