"""What routes ask for in their signatures: each dependency has one name, declared here.

The functions are coroutines because FastAPI runs a plain function in a thread.
"""

from typing import Annotated

from fastapi import Depends, Request

from app.api.answers import LargePages
from app.broker.connection import BrokerConnection
from app.services import Inventory
from app.store.mongo import Database


async def _inventory(request: Request) -> Inventory:
    inventory: Inventory = request.app.state.inventory
    return inventory


async def _connection(request: Request) -> BrokerConnection:
    connection: BrokerConnection = request.app.state.connection
    return connection


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _large_pages(request: Request) -> LargePages:
    large_pages: LargePages = request.app.state.large_pages
    return large_pages


InventoryDep = Annotated[Inventory, Depends(_inventory)]
ConnectionDep = Annotated[BrokerConnection, Depends(_connection)]
LargePagesDep = Annotated[LargePages, Depends(_large_pages)]
DatabaseDep = Annotated[Database, Depends(_database)]
