"""Lists of pages on a real database, on both drivers: what they show, in order, and the cost."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.collection import Collection

from app.errors import NotIndexed, StoreUnavailable
from app.extractor.document import extract
from app.models import (
    Awaited,
    Delivery,
    PageFilter,
    PageList,
    PagePosition,
    PageRecord,
    PageStatus,
)
from app.store import listing
from app.store.listing import PageLists
from app.store.mongo import Database
from app.store.pages import PageRepository
from app.store.unlisted import MissingIndexes, Unlisted
from dev.servers import MongoDB
from tests.contract.repositories import ERROR, PATIENCE, a_repository, claimed
from tests.fakes import a_page, a_request

pytestmark = pytest.mark.servers

LATEST = datetime(2026, 1, 1, tzinfo=UTC)
ALL = PageFilter()
FAILED = frozenset({PageStatus.FAILED_PERMANENT})


@pytest.fixture
def database_name(unique_name: str) -> str:
    """Not shared: tests here drop an index, and have the database note its commands."""
    return unique_name


@pytest.fixture
def lists(database: Database) -> PageLists:
    return PageLists(database, patience_seconds=PATIENCE)


@pytest.fixture
def pages(database: Database) -> PageRepository:
    return a_repository(database)


@pytest.fixture
def collection(mongodb: MongoDB, unique_name: str) -> Iterator[Collection[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongodb.url, uuidRepresentation="standard") as client:
        yield client[unique_name].pages


async def completed(pages: PageRepository, url: str, title: str = "") -> None:
    claim = await claimed(pages, Delivery(a_request(url)))
    document = extract(f"<title>{title}</title>", url)
    await pages.complete(claim, a_page(final_url=url, document=document))


async def failed(pages: PageRepository, url: str) -> None:
    claim = await claimed(pages, Delivery(a_request(url)))
    await pages.fail(claim, ERROR)


async def queued(pages: PageRepository, url: str) -> None:
    await pages.note_queued(a_request(url))


def date_back(collection: Collection[dict[str, Any]], url: str, **ages: float) -> None:
    """Let a record have been made, or changed, so many seconds before `LATEST`."""
    times = {f"{name}_at": LATEST - timedelta(seconds=age) for name, age in ages.items()}
    collection.update_one({"url": url}, {"$set": times})


def names(found: PageList) -> list[str]:
    return [record.url.rpartition("/")[2] for record in found.records]


async def everything(lists: PageLists, limit: int, wanted: PageFilter = ALL) -> list[PageRecord]:
    records: list[PageRecord] = []
    after = None
    while True:
        part = await lists.newest(wanted, limit, after)
        assert len(part.records) <= limit
        records += part.records
        if (after := part.next) is None:
            return records


async def test_the_newest_come_first_whatever_was_fetched_last(
    pages: PageRepository, lists: PageLists, collection: Collection[dict[str, Any]]
) -> None:
    for name in ("b", "a", "c"):
        await queued(pages, f"http://e.test/{name}")
    date_back(collection, "http://e.test/a", created=10)
    date_back(collection, "http://e.test/b", created=20)
    date_back(collection, "http://e.test/c", created=30)
    await completed(pages, "http://e.test/c")
    assert names(await lists.newest(ALL, 10)) == ["a", "b", "c"]


@pytest.mark.parametrize("same_millisecond", [True, False])
async def test_whoever_goes_on_sees_each_page_once_whatever_is_written_meanwhile(
    pages: PageRepository,
    lists: PageLists,
    collection: Collection[dict[str, Any]],
    *,
    same_millisecond: bool,
) -> None:
    there = [f"http://e.test/{number}" for number in range(20)]
    for age, url in enumerate(there):
        await queued(pages, url)
        date_back(collection, url, created=0 if same_millisecond else age)
    seen: list[str] = []
    after: PagePosition | None = None
    for turn in range(100):
        part = await lists.newest(ALL, 3, after)
        seen += [record.url for record in part.records]
        if (after := part.next) is None:
            break
        await queued(pages, f"http://new.test/{turn}")
        await completed(pages, there[turn], "changed")
        await failed(pages, there[-1 - turn])
    assert sorted(seen) == sorted(there)
    if not same_millisecond:
        assert seen == there


async def test_a_list_ends_with_null_even_if_it_is_exactly_full(
    pages: PageRepository, lists: PageLists
) -> None:
    assert await lists.newest(ALL, 10) == PageList((), None)
    for number in range(4):
        await queued(pages, f"http://e.test/{number}")
    assert (await lists.newest(ALL, 4)).next is None
    assert len(await everything(lists, 2)) == 4


async def test_each_filter_and_all_of_them_together(
    pages: PageRepository, lists: PageLists, collection: Collection[dict[str, Any]]
) -> None:
    await completed(pages, "http://www.shop.test/tea", "Green tea, loose")
    await completed(pages, "http://news.test/tea", "Tea harvest begins")
    await completed(pages, "http://news.test/coffee", "Coffee is dearer")
    await failed(pages, "http://news.test/gone")
    await queued(pages, "http://www.shop.test/new")
    date_back(collection, "http://news.test/tea", updated=100)

    async def found(**wanted: Any) -> set[str]:
        return {record.url for record in await everything(lists, 1, PageFilter(**wanted))}

    shop, news = "http://www.shop.test", "http://news.test"
    assert await found(text="tea") == {f"{shop}/tea", f"{news}/tea"}
    assert await found(text="shop") == {f"{shop}/tea", f"{shop}/new"}
    assert await found(text="www.shop.test") == {f"{shop}/tea", f"{shop}/new"}
    assert await found(text="te gre") == {f"{shop}/tea"}
    assert await found(text="g") == {f"{shop}/tea"}
    # There are terms before and after these, in one and the same record.
    assert (
        await found(text="m") == await found(text="news.shop") == await found(text="teb") == set()
    )
    assert await found(text="tea", host="news.test") == {f"{news}/tea"}
    assert await found(host="www.shop.test") == {f"{shop}/tea", f"{shop}/new"}
    assert await found(statuses=FAILED) == {f"{news}/gone"}
    assert await found(statuses=FAILED, text="news") == {f"{news}/gone"}
    assert await found(statuses=FAILED, host="www.shop.test") == set()
    assert await found(statuses=FAILED | {PageStatus.QUEUED}) == {f"{news}/gone", f"{shop}/new"}
    assert f"{news}/tea" not in await found(updated_since=LATEST)
    assert len(await found(updated_since=LATEST)) == 4
    assert await found(updated_since=LATEST, text="tea") == {f"{shop}/tea"}
    completed_ones = frozenset({PageStatus.COMPLETED})
    all_filters = {"statuses": completed_ones, "host": "news.test", "text": "coff"}
    assert await found(**all_filters, updated_since=LATEST) == {f"{news}/coffee"}


async def test_a_page_is_found_by_its_new_title_alone(
    pages: PageRepository, lists: PageLists
) -> None:
    await completed(pages, "http://e.test/", "Before")
    await completed(pages, "http://e.test/", "After")
    assert names(await lists.newest(PageFilter(text="before"), 10)) == []
    assert len(await everything(lists, 10, PageFilter(text="after"))) == 1


async def test_a_deleted_page_is_not_listed_and_one_that_comes_again_is_new(
    pages: PageRepository, lists: PageLists, collection: Collection[dict[str, Any]]
) -> None:
    for name in ("a", "b"):
        await completed(pages, f"http://e.test/{name}", "Tea")
        date_back(collection, f"http://e.test/{name}", created=10)
    await pages.delete("http://e.test/a", tells=False)
    for wanted in (ALL, PageFilter(text="tea"), PageFilter(host="e.test")):
        assert names(await lists.newest(wanted, 10)) == ["b"]
    await queued(pages, "http://e.test/a")
    assert names(await lists.newest(PageFilter(text="e.test"), 10)) == ["a", "b"]


async def test_a_list_has_neither_sources_nor_the_long_lists_of_documents(
    pages: PageRepository, lists: PageLists
) -> None:
    claim = await claimed(pages, Delivery(a_request()))
    html = '<title>A</title><meta property="og:title" content="B">'
    page = a_page(document=extract(html, claim.url), page_source=html)
    await pages.complete(claim, page)
    (record,) = (await lists.newest(ALL, 10)).records
    assert record.selected is not None
    assert "page_source" not in record.selected
    assert record.selected["headers"] == page.headers
    assert record.selected["document"]["title"] == "B"
    assert not {"open_graph", "json_ld"} & record.selected["document"].keys()


async def test_a_list_is_cut_where_its_records_are_large(
    pages: PageRepository, lists: PageLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "READ_AT_ONCE", 2)
    monkeypatch.setattr(listing, "MAX_BYTES", 1000)
    for number in range(5):
        await completed(pages, f"http://e.test/{number}", "x" * 400)
    part = await lists.newest(ALL, 5)
    assert len(part.records) == 2
    assert part.next is not None
    assert len(await everything(lists, 5)) == 5


async def test_a_record_that_cannot_be_read_hides_no_other(
    pages: PageRepository, lists: PageLists, collection: Collection[dict[str, Any]]
) -> None:
    for number in range(4):
        await queued(pages, f"http://e.test/{number}")
    collection.update_one({"url": "http://e.test/2"}, {"$unset": {"processing.attempts": True}})
    assert {record.url[-1] for record in await everything(lists, 1)} == {"0", "1", "3"}


@pytest.mark.parametrize(
    "odd", [{"checked_at": "never"}, {"processing.waiting": 5}, {"metadata.headers": "none"}]
)
async def test_a_record_that_the_database_cannot_make_sense_of_hides_no_other(
    pages: PageRepository,
    lists: PageLists,
    collection: Collection[dict[str, Any]],
    odd: dict[str, Any],
) -> None:
    for number in range(4):
        await completed(pages, f"http://e.test/{number}")
    collection.update_one({"url": "http://e.test/2"}, {"$set": odd})
    assert {record.url[-1] for record in await everything(lists, 3)} == {"0", "1", "3"}


async def test_words_that_hardly_one_page_has_together_end_in_time(
    mongodb: MongoDB,
    lists: PageLists,
    collection: Collection[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stock(collection)
    for host in range(10):
        word = "alp" if host % 2 else "bet"
        collection.update_many({"host": f"host-{host}.test"}, {"$push": {"search": word}})
    assert await lists.newest(PageFilter(text="alp bet"), 10) == PageList((), None)
    monkeypatch.setattr(listing, "LONGEST_SECONDS", 0.2)
    mongodb.pause()  # these records are too few to take the database a time that can be relied on
    try:
        with pytest.raises(StoreUnavailable):
            await lists.newest(PageFilter(text="alp bet"), 10)
    finally:
        mongodb.resume()


async def test_without_its_indexes_the_inventory_is_not_listed_until_migrate_has_made_them(
    pages: PageRepository, lists: PageLists, collection: Collection[dict[str, Any]]
) -> None:
    await completed(pages, "http://e.test/", "Tea")
    collection.drop_index("listed_by_term")
    with pytest.raises(NotIndexed, match="listed_by_term"):
        await lists.newest(ALL, 10)
    MissingIndexes(collection).fill_in()
    assert len((await lists.newest(PageFilter(text="tea"), 10)).records) == 1


async def test_records_of_older_versions_are_found_when_migrate_has_filled_them_in(
    pages: PageRepository, lists: PageLists, collection: Collection[dict[str, Any]]
) -> None:
    await completed(pages, "http://e.test/a", "Tea")
    await queued(pages, "http://e.test/b")
    await completed(pages, "http://e.test/c", "Tea")
    await pages.delete("http://e.test/c", tells=False)
    collection.update_many({}, {"$unset": {"search": True}})
    unlisted = Unlisted(collection)
    assert unlisted.count() == 2
    unlisted.fill_in()
    assert unlisted.count() == 0
    assert names(await lists.newest(PageFilter(text="tea"), 10)) == ["a"]
    assert len(await everything(lists, 10, PageFilter(text="e.test"))) == 2


COUNT = 3000

FILTERS = {
    "all": PageFilter(),
    "one status": PageFilter(FAILED),
    "host": PageFilter(host="host-1.test"),
    "host and status": PageFilter(FAILED, host="host-1.test"),
    "changed since": PageFilter(updated_since=LATEST - timedelta(seconds=100)),
    "changed since and status": PageFilter(FAILED, updated_since=LATEST - timedelta(seconds=900)),
    "text": PageFilter(text="word"),
    "a longer text": PageFilter(text="host-1.test"),
    "text and status": PageFilter(FAILED, text="word"),
    "text and host": PageFilter(text="word", host="host-1.test"),
    "text and changed since": PageFilter(text="w", updated_since=LATEST - timedelta(seconds=100)),
    "all filters": PageFilter(
        FAILED, host="host-1.test", updated_since=LATEST - timedelta(seconds=900), text="word"
    ),
}


@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
async def test_each_combination_of_filters_is_served_by_an_index(
    lists: PageLists, collection: Collection[dict[str, Any]], wanted: PageFilter
) -> None:
    stock(collection)
    await lists.newest(wanted, 10)
    collection.database.command("profile", 2)
    part = await lists.newest(wanted, 10)
    collection.database.command("profile", 0)
    looks = list(collection.database["system.profile"].find({"op": "query"}))
    assert part.records
    assert len(looks) == 2  # positions and records
    assert not any("COLLSCAN" in look["planSummary"] for look in looks)
    # In a collection of 3,000, of which every host has a tenth and every status a third.
    assert sum(look["docsExamined"] for look in looks) < 350
    assert sum(look["keysExamined"] for look in looks) < 600


def stock(collection: Collection[dict[str, Any]]) -> None:
    statuses = (PageStatus.FAILED_PERMANENT, PageStatus.COMPLETED, PageStatus.QUEUED)
    collection.insert_many(
        {
            "_id": ObjectId(),
            "url": f"http://host-{number % 10}.test/{number}",
            "host": f"host-{number % 10}.test",
            "search": ["h", "w", "word", f"host-{number % 10}.test"],
            "status": statuses[number % 3],
            "metadata": None,
            "processing": {"attempts": 1, "last_request_id": None, "last_error": None},
            "created_at": LATEST - timedelta(seconds=COUNT - number),
            "updated_at": LATEST - timedelta(seconds=COUNT - number),
        }
        for number in range(COUNT)
    )


async def test_what_is_known_by_its_url_is_never_looked_for_by_its_status(
    pages: PageRepository, collection: Collection[dict[str, Any]]
) -> None:
    # There is one page with a result. So the index of statuses looks better to the database, until
    # there are a million, and it still goes by what it has learned.
    await completed(pages, "http://e.test/")
    urls = [f"http://e.test/{number}" for number in range(200)]
    for url in urls:
        await queued(pages, url)
    collection.database.command("profile", 2)
    for _ in range(3):
        assert await pages.answered([Awaited(url) for url in urls]) == set()
        assert all(await asyncio.gather(*map(pages.find, urls)))
        await pages.find_with_source(urls[0])
    collection.database.command("profile", 0)
    looks = list(collection.database["system.profile"].find({"op": "query"}))
    plans = {plan for look in looks for plan in look["planSummary"].split(", ")}
    assert plans == {"IXSCAN { url: 1 }"}
