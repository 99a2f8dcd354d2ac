"""What routes ask for in their signatures: each dependency has one name, declared here.

The functions are coroutines because FastAPI runs a plain function in a thread.
"""

from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import SkipJsonSchema

from app.api.reading import PageReader
from app.api.schemas import FIELDS
from app.broker.connection import BrokerConnection
from app.models import METADATA_FIELDS
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


InventoryDep = Annotated[Inventory, Depends(_inventory)]
ConnectionDep = Annotated[BrokerConnection, Depends(_connection)]
DatabaseDep = Annotated[Database, Depends(_database)]


async def _reader(request: Request) -> PageReader:
    # Not by further dependencies: each costs a request some 20 µs, of 400.
    state = request.app.state
    return PageReader(request, state.inventory, state.large_pages, state.waiters)


async def _fields(
    fields: Annotated[str | SkipJsonSchema[None], Query(**FIELDS)] = None,
) -> frozenset[str]:
    if fields is None:
        return METADATA_FIELDS
    names = frozenset(fields.split(",")) if fields else frozenset[str]()
    if unknown := names - METADATA_FIELDS:
        known = ", ".join(sorted(METADATA_FIELDS))
        message = f"{', '.join(sorted(unknown))!r} unknown; the known fields are {known}"
        error = {"type": "value_error", "loc": ("query", "fields"), "msg": message}
        raise RequestValidationError([error])
    return names


ReaderDep = Annotated[PageReader, Depends(_reader)]
FieldsDep = Annotated[frozenset[str], Depends(_fields)]
