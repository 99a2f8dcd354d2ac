"""What unit tests may ask for. Nothing here applies by itself."""

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from loguru import logger
from starlette.datastructures import State

from app.api.answers import READING_BYTES, SENDING_BYTES, LargePages, Room
from app.api.application import create_app
from app.runtime.settings import Settings
from app.waiting import Waiters
from dev.specs import default_settings
from tests.fakes import FakePages
from tests.unit.recorded import Log


@pytest.fixture
def log() -> Iterator[Log]:
    """Every event that is logged from here on."""
    recorded = Log()
    number = logger.add(recorded.write, level="TRACE", format="{message}", catch=False)
    yield recorded
    logger.remove(number)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays that were asked for in this thread; none of them is waited."""
    delays: list[float] = []
    real_sleep, here = asyncio.sleep, threading.get_ident()

    async def sleep(seconds: float) -> None:
        if threading.get_ident() != here:
            await real_sleep(seconds)
            return
        if seconds:
            delays.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return delays


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any of our variables, to set some in."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def settings(bare_environment: pytest.MonkeyPatch) -> Settings:
    """The defaults, whatever this machine's environment and `.env` say."""
    del bare_environment
    return Settings(_env_file=None)


@pytest.fixture(scope="session")
def built_api() -> FastAPI:
    """The API with the default settings, for `default_api` alone."""
    return create_app(default_settings())


@pytest.fixture
def default_api(built_api: FastAPI) -> Iterator[FastAPI]:
    """The API with the default settings, and with a state that no other test sees.

    FastAPI completes a route when it is first called, which takes longer than most tests. So all
    tests of a process share the routes and the middleware, which do not change. What a test puts
    into the state is gone after it, and what counts callers there is new for each.
    """
    as_built = built_api.state
    counters = {
        "waiters": Waiters(FakePages().answered, most=1000),
        "large_pages": LargePages(Room(READING_BYTES), Room(SENDING_BYTES)),
    }
    built_api.state = State({name: as_built[name] for name in as_built} | counters)
    yield built_api
    built_api.state = as_built


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def openapi() -> Any:
    """The OpenAPI document as it is served, which takes half a second to build. Only read it."""
    transport = httpx.ASGITransport(create_app(default_settings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return (await client.get("/openapi.json")).json()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undo what `configure_logging()` does to the standard library's loggers and to loguru."""
    loggers = [logging.getLogger(), *map(logging.getLogger, _CONFIGURED)]
    before = [(it, it.level, it.handlers[:], it.filters[:], it.propagate) for it in loggers]
    yield
    # loguru can't be asked for the handlers it had: this is the one it begins with.
    logger.configure(handlers=[], extra={})
    logger.add(sys.__stderr__ or sys.stderr)
    for it, level, its_handlers, its_filters, propagate in before:
        it.setLevel(level)
        it.handlers[:] = its_handlers
        it.filters[:] = its_filters
        it.propagate = propagate


_CONFIGURED = (
    *("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "faststream"),
    *("aio_pika", "aiormq", "httpx", "httpcore", "pymongo", "asyncio"),
)
