"""What one page of `GET /metadata/pages` costs as the inventory grows: `python -m bench.listing`.

It fills a collection with 1,000 records, then with 1,000,000, and reads the same lists of each. The
table says how long the database took for a list of 50 (the median of nine), and how many keys of
indexes and how many records it had to look at.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymongo
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from app.extractor.document import extract
from app.models import Document, PageFilter, PagePosition, PageStatus
from app.retries import Backoff
from app.search import search_terms
from app.store.indexes import LISTING_INDEXES, listing_index
from app.store.listing import PageLists
from app.store.mongo import Database
from bench.http import a_stored_page
from dev.servers import MongoDB, install_missing
from dev.stack import running

SIZES = (1_000, 1_000_000)
LIMIT = 50
TRIES = 9
BATCH = 10_000

DOCUMENT = TypeAdapter(Document).dump_python(extract("", "https://example.com/"))
END = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = 5_000
WORDS = 20_000
FAILED = PageStatus.FAILED_RETRYABLE
SHARES = {PageStatus.COMPLETED: 0.95, FAILED: 0.0495, PageStatus.QUEUED: 0.0005}

FILTERS = {
    "all": PageFilter(),
    "failed": PageFilter(frozenset({FAILED})),
    "queued (few)": PageFilter(frozenset({PageStatus.QUEUED})),
    "a large host": PageFilter(host="www.host-0.example"),
    "failed of a large host": PageFilter(frozenset({FAILED}), host="www.host-0.example"),
    "a small host": PageFilter(host="www.host-900.example"),
    "changed in the last minutes": PageFilter(updated_since=END - timedelta(minutes=10)),
    "changed in the second half": PageFilter(updated_since=END - timedelta(days=180)),
    "q: a letter": PageFilter(text="w"),
    "q: a rare word": PageFilter(text="w777"),
    "q: a large host": PageFilter(text="www.host-0.example"),
    "q: the beginning of all hosts": PageFilter(text="www.host-"),
    "q: a letter, failed": PageFilter(frozenset({FAILED}), text="w"),
    "q: two words": PageFilter(text="w77 w1"),
    "q: a word of a large host": PageFilter(host="www.host-0.example", text="w1"),
}


def records(count: int) -> Iterator[dict[str, Any]]:
    """Yield records of pages of many hosts, of which few are large, made in one year."""
    chance = random.Random(count)  # noqa: S311 (no secret)
    step = timedelta(days=365) / count
    for number in range(count):
        host = f"www.host-{min(int(chance.paretovariate(0.6)) - 1, HOSTS)}.example"
        title = " ".join(f"w{int(chance.triangular(0, WORDS, 0))}" for _ in range(5))
        created_at = END - step * (count - number)
        updated_at = min(END, created_at + timedelta(days=chance.expovariate(1)))
        yield {
            "url": f"https://{host}/{number}",
            "host": host,
            "search": search_terms(host, title),
            "status": _status(chance),
            "metadata": {**a_stored_page(""), "page_source": None, "document": _document(title)},
            "processing": {"attempts": 1, "last_request_id": None, "last_error": None},
            "created_at": created_at,
            "updated_at": updated_at,
        }


def _document(title: str) -> dict[str, Any]:
    return {**DOCUMENT, "title": title}


def _status(chance: random.Random) -> PageStatus:
    (status,) = chance.choices(list(SHARES), list(SHARES.values()))
    return status


async def measure(database: Database, wanted: PageFilter) -> str:
    """Return what the second page of a list costs."""
    lists = PageLists(database, patience_seconds=600)
    after = (await lists.newest(wanted, LIMIT)).next
    profile = database.pages.database["system.profile"]
    await database.pages.database.command("profile", 0)
    await profile.drop()
    await database.pages.database.command("profile", 2)
    times = [await _timed(lists, wanted, after) for _ in range(TRIES)]
    await database.pages.database.command("profile", 0)
    looks = [it async for it in profile.find({"ns": database.pages.full_name, "op": "query"})]
    keys = sum(it["keysExamined"] for it in looks) / TRIES
    documents = sum(it["docsExamined"] for it in looks) / TRIES
    return f"{statistics.median(times) * 1e3:.1f} ms, {keys:.0f} keys, {documents:.0f} records"


async def _timed(lists: PageLists, wanted: PageFilter, after: PagePosition | None) -> float:
    began = time.perf_counter()
    await lists.newest(wanted, LIMIT, after)
    return time.perf_counter() - began


def fill(url: str, name: str, count: int) -> None:
    """Make a collection, and its indexes when all records are there, which is quicker."""
    with pymongo.MongoClient[dict[str, Any]](url, w=1) as client:
        pages, batch = client[name].pages, []
        for record in records(count):
            batch.append(record)
            if len(batch) == BATCH:
                pages.insert_many(batch, ordered=False)
                batch = []
        if batch:
            pages.insert_many(batch, ordered=False)
        for index in LISTING_INDEXES:
            pages.create_indexes([listing_index(index)])


async def lists_of(url: str, name: str) -> list[str]:
    """Measure all lists of one collection."""
    backoff = Backoff(initial=1, maximum=1, multiplier=1, attempts=1)
    database = Database(url, name, timeout_seconds=60, backoff=backoff)
    await database.open()
    try:
        return [await measure(database, wanted) for wanted in FILTERS.values()]
    finally:
        await database.close()


def main() -> None:
    """Print the table."""
    install_missing()
    console, columns = Console(width=160), []
    with TemporaryDirectory() as folder:
        mongodb = MongoDB(Path(folder))
        with running(mongodb):
            for count in SIZES:
                began = time.monotonic()
                fill(mongodb.url, f"inventory_{count}", count)
                took = time.monotonic() - began
                console.print(f"{count:,} records took {took:.0f} s to make")
                columns.append(asyncio.run(lists_of(mongodb.url, f"inventory_{count}")))
    table = Table("list", *(f"{count:,} records" for count in SIZES))
    for row in zip(FILTERS, *columns, strict=True):
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
