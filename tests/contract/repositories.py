"""Repositories of pages on a real database, and what several scenarios do with any repository."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from app.models import Claim, Delivery, ErrorKind, PageError, PageRecord, PageStatus
from app.retries import Backoff
from app.services import Pages
from app.store.mongo import Database
from app.store.pages import PageRepository
from dev.servers import MongoDB
from tests.fakes import URL

ERROR = PageError(ErrorKind.CONNECT, "connection refused")
LEASE = 120.0
PATIENCE = 600.0

ONCE = Backoff(initial=0.1, maximum=0.1, multiplier=1, attempts=1)


@asynccontextmanager
async def opened(
    mongodb: MongoDB, name: str, client_class: Any, *, retention_days: int = 0, attempts: int = 1
) -> AsyncIterator[Database]:
    database = Database(
        mongodb.url,
        name,
        timeout_seconds=5,
        backoff=replace(ONCE, attempts=attempts),
        retention_days=retention_days,
        client_class=client_class,
    )
    await database.open()
    try:
        yield database
    finally:
        await database.close()
        await asyncio.sleep(0)  # asyncio closes transports in the loop's next round


@asynccontextmanager
async def opened_empty(
    mongodb: MongoDB, name: str, client_class: Any, *, retention_days: int = 0
) -> AsyncIterator[Database]:
    """Open a database, and remove the pages that another test has left there."""
    async with opened(mongodb, name, client_class, retention_days=retention_days) as database:
        await database.pages.delete_many({})
        yield database


def a_repository(database: Database) -> PageRepository:
    return PageRepository(database, patience_seconds=PATIENCE)


async def claimed(pages: Pages, delivery: Delivery, *, alone: bool = False) -> Claim:
    claim = await pages.claim(delivery, lease_seconds=LEASE, alone=alone)
    assert isinstance(claim, Claim)
    return claim


async def found(pages: Pages, url: str = URL) -> PageRecord:
    record = await pages.find(url)
    assert record is not None
    return record


async def status_of(pages: Pages, url: str = URL) -> PageStatus | str:
    return (await found(pages, url)).status
