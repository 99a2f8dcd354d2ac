"""What routes ask for in their signatures: each dependency has one name, declared here.

The functions are coroutines because FastAPI runs a plain function in a thread.
"""

from typing import Annotated

from fastapi import Depends, Request

from app.api.reading import PageReader
from app.broker.connection import BrokerConnection
from app.store.listing import PageLists
from app.store.mongo import Database


async def _connection(request: Request) -> BrokerConnection:
    connection: BrokerConnection = request.app.state.connection
    return connection


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _lists(request: Request) -> PageLists:
    lists: PageLists = request.app.state.lists
    return lists


ListsDep = Annotated[PageLists, Depends(_lists)]
ConnectionDep = Annotated[BrokerConnection, Depends(_connection)]
DatabaseDep = Annotated[Database, Depends(_database)]


async def _reader(request: Request) -> PageReader:
    # Not by further dependencies: each costs a request some 20 µs, of 400.
    state = request.app.state
    return PageReader(request, state.inventory, state.large_pages, state.waiters)


ReaderDep = Annotated[PageReader, Depends(_reader)]
