"""What every scenario runs on: a fake repository of pages, and the real one on each driver."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.services import Pages
from app.store.mongo import CLIENTS, Database
from dev.servers import MongoDB
from tests.contract.repositories import PATIENCE, a_repository, opened_empty
from tests.fakes import FakePages


@pytest.fixture
def database_name() -> str:
    """The name of a database that many tests use, one after the other.

    Each finds it empty. To make the indexes anew would take longer than most of these tests, so a
    test that changes anything but pages has a database of its own.
    """
    return "contract"


@pytest.fixture(params=list(CLIENTS))
async def database(
    request: pytest.FixtureRequest, mongodb: MongoDB, database_name: str
) -> AsyncIterator[Database]:
    async with opened_empty(mongodb, database_name, CLIENTS[request.param]) as database:
        yield database


ON_A_SERVER = [pytest.param(driver, marks=pytest.mark.servers) for driver in CLIENTS]


@pytest.fixture(params=["fake", *ON_A_SERVER])
async def pages(request: pytest.FixtureRequest, database_name: str) -> AsyncIterator[Pages]:
    if request.param == "fake":
        yield FakePages(patience=timedelta(seconds=PATIENCE))
        return
    mongodb = request.getfixturevalue("mongodb")
    async with opened_empty(mongodb, database_name, CLIENTS[request.param]) as database:
        yield a_repository(database)
