"""`pagemeta migrate` and `pagemeta reextract` on a real database, beside workers that use it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pymongo
import pytest
from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.cli.terminal import console
from app.extractor.document import EXTRACTOR_VERSION, HTML_TYPES, extract
from app.models import (
    Claim,
    Delivery,
    ErrorKind,
    PageError,
    PageMetadata,
    PageRecord,
    PageRequest,
    PageStatus,
    RequestRecord,
)
from app.retries import Backoff
from app.store import documents, spellings
from app.store.documents import StoredDocuments
from app.store.mongo import Database
from app.store.pages import PageRepository
from app.store.spellings import Move, Spellings
from app.urls import canonical_url
from dev.servers import MongoDB
from tests.fakes import a_page, a_request

T = TypeVar("T")
Bson = dict[str, Any]

OLD, CANONICAL = "http://example.com/a/../é", "http://example.com/%C3%A9"
NO_LONGER_TAKEN = "http://1.2.3.4.5/"
PATIENCE = 600.0
REFUSED = PageError(ErrorKind.CONNECT, "connection refused")


class Store:
    """The records of one test, written as workers write them and read as the API reads them."""

    def __init__(self, mongodb: MongoDB, name: str) -> None:
        self.environment = {"DATABASE_URL": mongodb.url, "DATABASE_NAME": name}
        self._client: pymongo.MongoClient[Bson] = pymongo.MongoClient(
            mongodb.url, tz_aware=True, uuidRepresentation="standard"
        )
        self._url, self._name = mongodb.url, name
        self.pages: Collection[Bson] = self._client[name].pages
        self.run(lambda pages: pages.find(OLD))  # makes the indexes

    def close(self) -> None:
        self._client.close()

    def run(self, work: Callable[[PageRepository], Awaitable[T]]) -> T:
        async def connected() -> T:
            once = Backoff(initial=1, maximum=1, multiplier=1, attempts=1)
            database = Database(self._url, self._name, timeout_seconds=5, backoff=once)
            await database.open()
            try:
                return await work(PageRepository(database, patience_seconds=PATIENCE))
            finally:
                await database.close()

        return asyncio.run(connected())

    def request(self, url: str) -> PageRequest:
        request = a_request(url)
        self.run(lambda pages: pages.note_queued(request))
        return request

    def claim(self, request: PageRequest) -> Claim:
        claim = self.run(lambda pages: pages.claim(Delivery(request), lease_seconds=120))
        assert isinstance(claim, Claim)
        return claim

    def complete(self, url: str, source: str) -> PageRequest:
        request = self.request(url)
        claim = self.claim(request)
        page = a_page(page_source=source, body_sha256=source)
        assert self.run(lambda pages: pages.complete(claim, page))
        return request

    def fail(self, url: str) -> PageRequest:
        request = self.request(url)
        claim = self.claim(request)
        assert self.run(lambda pages: pages.fail(claim, REFUSED))
        return request

    def find(self, url: str) -> PageRecord | None:
        return self.run(lambda pages: pages.find(url))

    def source(self, url: str) -> str | None:
        record = self.find(url)
        assert record
        assert record.metadata
        return record.metadata.page_source

    def outcome(self, request: PageRequest) -> RequestRecord | None:
        return self.run(lambda pages: pages.find_request(request.request_id))

    def status_of(self, request: PageRequest) -> PageStatus | str | None:
        found = self.outcome(request)
        return found.status if found else None

    def urls(self) -> set[str]:
        return {it["url"] for it in self.pages.find({}, {"url": True})}

    def age(self, url: str) -> None:
        """Make a record as old as if nobody were at work on it any more."""
        hour = {"startDate": "$updated_at", "unit": "hour", "amount": 1}
        fields = {"updated_at": {"$dateSubtract": hour}}
        lease = {"$dateSubtract": hour | {"startDate": "$processing.lease_expires_at"}}
        self.pages.update_one(
            {"url": url}, [{"$set": fields | {"processing.lease_expires_at": lease}}]
        )

    def spellings(self, pages: Any = None) -> Spellings:
        collection = self.pages if pages is None else pages
        return Spellings(collection, patience_seconds=PATIENCE)

    def migrate(self, pages: Any = None) -> list[Move]:
        migration = self.spellings(pages)
        return [migration.move(it) for _, batch in migration.outdated() for it in batch]

    def pagemeta(self, *arguments: str, typed: str = "") -> Result:
        console.width = 250
        return CliRunner().invoke(
            app, arguments, input=typed, env=self.environment, catch_exceptions=False
        )


@pytest.fixture
def store(mongodb: MongoDB, unique_name: str) -> Iterator[Store]:
    store = Store(mongodb, unique_name)
    yield store
    store.close()


def of_version_0_1_0(url: str, status: str = "COMPLETED", **processing: object) -> Bson:
    """Return a record as the first version wrote it."""
    now = datetime.now(UTC)
    return {
        "url": url,
        "status": status,
        "host": "example.com",
        "metadata": None,
        "processing": {
            "attempts": 1,
            "last_request_id": uuid4(),
            "last_attempt_at": now,
            "lease_expires_at": None,
            "last_error": None,
            **processing,
        },
        "created_at": now,
        "updated_at": now,
    }


# --- migrate --------------------------------------------------------------------------------------


def test_a_record_under_an_old_spelling_is_found_under_the_canonical_one(store: Store) -> None:
    request = store.complete(OLD, "kept")
    assert store.migrate() == [Move.MOVED]
    assert store.urls() == {CANONICAL}
    assert store.source(CANONICAL) == "kept"
    ended = store.outcome(request)
    assert ended
    assert (ended.status, ended.url) == (PageStatus.COMPLETED, CANONICAL)
    assert store.migrate() == []


@pytest.mark.parametrize("order", [(OLD, CANONICAL), (CANONICAL, OLD)])
def test_of_two_results_of_a_page_the_newer_is_kept_and_every_request_keeps_its_outcome(
    store: Store, order: tuple[str, str]
) -> None:
    first = store.complete(order[0], "older")
    failed = [store.fail(url) for url in order]
    last = store.complete(order[1], "newer")
    assert store.migrate() == [Move.MERGED]
    assert store.urls() == {CANONICAL}
    assert store.source(CANONICAL) == "newer"
    assert [store.status_of(it) for it in (first, last)] == [PageStatus.COMPLETED] * 2
    assert [store.status_of(it) for it in failed] == [PageStatus.FAILED_PERMANENT] * 2
    later = store.complete(CANONICAL, "newest")
    assert store.status_of(later) == PageStatus.COMPLETED
    assert store.status_of(failed[0]) == PageStatus.FAILED_PERMANENT


def test_a_result_is_kept_before_a_failure_however_late(store: Store) -> None:
    store.complete(OLD, "a result")
    failed = store.fail(CANONICAL)
    assert store.migrate() == [Move.MERGED]
    assert store.source(CANONICAL) == "a result"
    assert store.status_of(failed) == PageStatus.FAILED_PERMANENT


def test_more_outcomes_than_are_usually_remembered_are_merged(store: Store) -> None:
    requests = [store.complete(url, "x") for _ in range(9) for url in (OLD, CANONICAL)]
    assert store.migrate() == [Move.MERGED]
    assert {store.status_of(it) for it in requests} == {PageStatus.COMPLETED}


@pytest.mark.parametrize("busy", [OLD, CANONICAL])
def test_a_page_that_is_waited_for_or_fetched_is_left_alone(store: Store, busy: str) -> None:
    for url in (OLD, CANONICAL):
        store.complete(url, url)
    request = store.request(busy)
    before = list(store.pages.find())
    assert store.migrate() == [Move.IN_USE]
    assert list(store.pages.find()) == before
    claim = store.claim(request)
    assert store.migrate() == [Move.IN_USE]
    assert store.run(lambda pages: pages.complete(claim, a_page(page_source="new")))
    assert store.migrate() == [Move.MERGED]
    assert store.source(CANONICAL) == "new"


@pytest.mark.parametrize("is_claimed", [False, True])
def test_a_request_that_nobody_works_on_waits_for_the_next_fetch(
    store: Store, *, is_claimed: bool
) -> None:
    lost = store.request(OLD)
    if is_claimed:
        store.claim(lost)
    store.fail(CANONICAL)
    store.age(OLD)
    assert store.migrate() == [Move.MERGED]
    record = store.find(CANONICAL)
    assert record
    assert record.status == PageStatus.QUEUED
    assert store.status_of(lost) == PageStatus.QUEUED
    store.complete(CANONICAL, "fetched")
    assert store.status_of(lost) == PageStatus.COMPLETED


def test_a_lost_request_beside_a_result_is_a_refresh_to_come(store: Store) -> None:
    lost = store.request(OLD)
    store.complete(CANONICAL, "a result")
    store.age(OLD)
    assert store.migrate() == [Move.MERGED]
    record = store.find(CANONICAL)
    assert record
    assert record.refresh
    assert (record.status, record.refresh.request_id) == (PageStatus.COMPLETED, lost.request_id)


def test_a_request_that_was_answered_under_the_old_spelling_does_not_wait_under_the_new_one(
    store: Store,
) -> None:
    late = store.request(OLD)
    store.age(OLD)
    assert store.migrate() == [Move.MOVED]
    claim = store.claim(late)  # its message was not lost after all, and has the old spelling
    assert store.run(lambda pages: pages.complete(claim, a_page(page_source="fetched")))
    assert store.migrate() == [Move.MERGED]
    record = store.find(CANONICAL)
    assert record
    assert (record.status, record.refresh) == (PageStatus.COMPLETED, None)
    assert store.status_of(late) == PageStatus.COMPLETED


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED_PERMANENT"])
def test_a_record_of_version_0_1_0_keeps_the_outcome_of_its_request(
    store: Store, status: str
) -> None:
    old = of_version_0_1_0(OLD, status)
    store.pages.insert_one(old)
    request = store.complete(CANONICAL, "new")
    assert store.migrate() == [Move.MERGED]
    found = store.run(lambda pages: pages.find_request(old["processing"]["last_request_id"]))
    assert found
    assert found.status == status
    assert store.status_of(request) == PageStatus.COMPLETED
    assert store.source(CANONICAL) == "new"


def test_a_url_that_is_no_longer_taken_stays_and_is_counted(store: Store) -> None:
    store.pages.insert_one(of_version_0_1_0(NO_LONGER_TAKEN))
    assert store.migrate() == [Move.NOT_TAKEN]
    assert store.urls() == {NO_LONGER_TAKEN}


class Stopping:
    """A collection whose connection is lost before, or after, its n-th write."""

    def __init__(self, pages: Collection[Bson], writes: int, *, after: bool) -> None:
        self._pages, self._left, self._after = pages, writes, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pages, name)
        return method if name in ("find", "aggregate") else lambda *args: self._write(method, args)

    def _write(self, method: Callable[..., T], arguments: Any) -> T:
        self._left -= 1
        if self._left == 0:
            if self._after:
                method(*arguments)
            raise AutoReconnect
        return method(*arguments)


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [False, True])
def test_stopping_anywhere_and_repeating_ends_as_if_it_had_not_been_stopped(
    store: Store, writes: int, *, after: bool
) -> None:
    requests = [store.complete(OLD, "older"), store.fail(OLD), store.complete(CANONICAL, "newer")]
    alone = store.complete(f"{OLD}/alone", "alone")
    with pytest.raises(AutoReconnect):
        store.migrate(Stopping(store.pages, writes, after=after))
    assert store.source(CANONICAL) == "newer"
    store.migrate()
    assert store.urls() == {CANONICAL, f"{CANONICAL}/alone"}
    assert (store.source(CANONICAL), store.source(f"{CANONICAL}/alone")) == ("newer", "alone")
    assert [store.status_of(it) for it in (*requests, alone)] == [
        PageStatus.COMPLETED,
        PageStatus.FAILED_PERMANENT,
        PageStatus.COMPLETED,
        PageStatus.COMPLETED,
    ]
    record = store.pages.find_one({"url": CANONICAL})
    assert record
    assert len(record["processing"]["covered"]) == 3
    assert len(record["processing"]["outcomes"]) == 3


class Meddling:
    """A collection that lets a worker do something before each write."""

    def __init__(self, pages: Collection[Bson], meddle: Callable[[], object]) -> None:
        self._pages, self._meddle = pages, meddle

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pages, name)
        return method if name in ("find", "aggregate") else lambda *args: self._write(method, args)

    def _write(self, method: Callable[..., T], arguments: Any) -> T:
        self._meddle()
        return method(*arguments)


@pytest.mark.parametrize("busy", [OLD, CANONICAL])
@pytest.mark.parametrize("both", [False, True])
def test_what_a_worker_writes_meanwhile_is_not_lost(store: Store, busy: str, *, both: bool) -> None:
    requests = [store.complete(OLD, "old")]
    if both:
        requests.append(store.complete(CANONICAL, "canonical"))
    worker = iter(range(3))  # it is done with its pages before long

    def meddle() -> None:
        if next(worker, None) is not None:
            requests.append(store.complete(busy, f"fetched {len(requests)}"))

    store.migrate(Meddling(store.pages, meddle))
    store.migrate()
    assert store.urls() == {CANONICAL}
    assert store.source(CANONICAL) == f"fetched {len(requests) - 1}"
    assert {store.status_of(it) for it in requests} == {PageStatus.COMPLETED}


def test_many_records_are_found_in_small_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spellings, "URLS_AT_ONCE", 3)
    urls = [f"http://example.com/{number}{'é' * (number % 2)}" for number in range(10)]
    store.pages.insert_many([of_version_0_1_0(url) for url in urls])
    assert sum(records for records, _ in store.spellings().outdated()) == 10
    store.migrate()
    assert store.urls() == {canonical_url(url) for url in urls}


def test_migrate_says_what_it_would_do_and_asks(store: Store) -> None:
    store.complete(OLD, "old")
    store.pages.insert_one(of_version_0_1_0(NO_LONGER_TAKEN))
    dry = store.pagemeta("migrate", "--dry-run")
    assert dry.exit_code == 1
    assert f"moved: {OLD}\n    to {CANONICAL}" in dry.stdout
    assert f"not taken: {NO_LONGER_TAKEN}" in dry.stdout
    refused = store.pagemeta("migrate", typed="n\n")
    assert refused.exit_code == 1
    assert store.urls() == {OLD, NO_LONGER_TAKEN}
    done = store.pagemeta("migrate", typed="y\n")
    assert (done.exit_code, store.urls()) == (0, {CANONICAL, NO_LONGER_TAKEN})
    again = store.pagemeta("migrate", "--yes", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == {"moved": 0, "merged": 0, "in_use": 0, "not_taken": 1}


def test_migrate_ends_with_1_while_records_are_in_use(store: Store) -> None:
    store.request(OLD)
    ran = store.pagemeta("migrate", "--yes")
    assert ran.exit_code == 1
    assert "1 are in use" in ran.stdout
    assert "Repeat the command later" in ran.stdout


# --- reextract ------------------------------------------------------------------------------------


def html_page(title: str) -> PageMetadata:
    return a_page(page_source=f"<title>{title}</title>", body_sha256=title)


def keep(store: Store, url: str, page: PageMetadata) -> ObjectId:
    claim = store.claim(store.request(url))
    assert store.run(lambda pages: pages.complete(claim, page))
    record = store.pages.find_one({"url": url}, {"_id": True})
    assert record
    identity: ObjectId = record["_id"]
    return identity


def title_of(store: Store, url: str) -> str | None:
    record = store.find(url)
    assert record
    assert record.metadata
    return record.metadata.document.title if record.metadata.document else None


def stored_documents(store: Store) -> StoredDocuments:
    return StoredDocuments(store.pages, html_types=HTML_TYPES, version=EXTRACTOR_VERSION)


def test_pages_without_a_document_or_with_an_old_one_are_read_again(store: Store) -> None:
    old = extract("<title>old</title>", "http://a.test/")
    newest = replace(old, extractor_version=EXTRACTOR_VERSION + 1)
    keep(store, "http://a.test/none", html_page("none"))
    keep(
        store,
        "http://a.test/old",
        replace(html_page("2"), document=replace(old, extractor_version=0)),
    )
    keep(store, "http://a.test/same", replace(html_page("3"), document=old))
    keep(store, "http://a.test/newer", replace(html_page("4"), document=newest))
    keep(store, "http://a.test/text", replace(html_page("5"), content_type="text/plain"))
    keep(store, "http://a.test/large", a_page(page_source="<title>large</title>" + "x" * 100_000))
    ran = store.pagemeta("reextract", "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout) == {"read": 3, "fetched_meanwhile": 0, "failed": 0}
    titles = {name: title_of(store, f"http://a.test/{name}") for name in ("none", "old", "large")}
    assert titles == {"none": "none", "old": "2", "large": "large"}
    assert title_of(store, "http://a.test/same") == "old"
    assert title_of(store, "http://a.test/text") is None
    assert "0 pages read" in store.pagemeta("reextract").stdout
    assert "5 pages read" in store.pagemeta("reextract", "--all").stdout


def test_a_page_that_was_fetched_meanwhile_keeps_its_new_document(store: Store) -> None:
    identity = keep(store, CANONICAL, html_page("before"))
    stored = stored_documents(store)
    page = stored.read(identity)
    assert page
    new = replace(html_page("after"), document=extract("<title>after</title>", CANONICAL))
    keep(store, CANONICAL, new)
    assert not stored.keep(page, extract(page.html, page.final_url))
    assert title_of(store, CANONICAL) == "after"
    same_body = replace(new, fetched_at=new.fetched_at + timedelta(seconds=1))
    page = stored.read(identity)
    assert page
    keep(store, CANONICAL, same_body)
    assert not stored.keep(page, extract("", CANONICAL))
    assert title_of(store, CANONICAL) == "after"


def test_a_reader_sees_that_the_record_has_changed(store: Store) -> None:
    keep(store, CANONICAL, html_page("a"))
    before = store.find(CANONICAL)
    store.pagemeta("reextract")
    after = store.find(CANONICAL)
    assert before
    assert after
    assert (after.revision or 0) > (before.revision or 0)
    assert after.updated_at >= before.updated_at


def test_a_claim_is_not_disturbed(store: Store) -> None:
    keep(store, CANONICAL, html_page("a"))
    claim = store.claim(store.request(CANONICAL))
    store.pagemeta("reextract")
    assert store.run(lambda pages: pages.complete(claim, html_page("b")))


def test_one_page_that_cannot_be_kept_does_not_stop_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "RECORDS_AT_ONCE", 2)
    for name in "abcde":
        keep(store, f"http://a.test/{name}", html_page(name))
    almost_full = "x" * (16 * 1024 * 1024 - 1500)
    store.pages.update_one(
        {"url": "http://a.test/b"}, {"$set": {"metadata.page_source": almost_full}}
    )
    ran = store.pagemeta("reextract", "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout) == {"read": 4, "fetched_meanwhile": 0, "failed": 1}
    assert ran.stderr.startswith("http://a.test/b: NotStorable")
    assert title_of(store, "http://a.test/e") == "e"


def test_a_database_that_does_not_answer_ends_the_commands_with_2(store: Store) -> None:
    store.environment["DATABASE_URL"] = "mongodb://127.0.0.1:1"
    store.environment["DATABASE_TIMEOUT_SECONDS"] = "0.5"
    for command in (["migrate", "--yes"], ["reextract"]):
        ran = store.pagemeta(*command)
        assert ran.exit_code == 2
        assert ran.stderr.startswith("error: MongoDB could not be reached")
