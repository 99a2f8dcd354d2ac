"""What every scenario runs on: a fake repository of pages, and the real one on each driver."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from app.services import Pages
from app.store.mongo import Database
from dev.servers import MongoDB
from tests.contract.repositories import PATIENCE, a_repository, opened
from tests.fakes import FakePages


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def database(
    request: pytest.FixtureRequest, mongodb: MongoDB, unique_name: str
) -> AsyncIterator[Database]:
    async with opened(mongodb, unique_name, request.param) as database:
        yield database


ON_A_SERVER = [pytest.param(driver, marks=pytest.mark.servers) for driver in ("motor", "pymongo")]


@pytest.fixture(params=["fake", *ON_A_SERVER])
async def pages(request: pytest.FixtureRequest, unique_name: str) -> AsyncIterator[Pages]:
    if request.param == "fake":
        yield FakePages(patience=timedelta(seconds=PATIENCE))
        return
    client_class = AsyncMongoClient if request.param == "pymongo" else AsyncIOMotorClient
    mongodb = request.getfixturevalue("mongodb")
    async with opened(mongodb, unique_name, client_class) as database:
        yield a_repository(database)
