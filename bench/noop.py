"""The baseline of the API: the same FastAPI, uvicorn and body model, but no work."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from fastapi import FastAPI

from app.api.schemas import MetadataRequest

Answer = dict[str, str]
Act = Callable[[str], object]


def make_api(act: Act, lifespan: Any = None) -> FastAPI:
    """Return an API whose POST calls `act` with the URL.

    FastAPI awaits a coroutine function, and calls any other in its threads.
    """
    api = FastAPI(lifespan=lifespan)
    take = _awaiting(act) if iscoroutinefunction(act) else _calling(act)
    api.post("/metadata", status_code=202)(take)
    api.get("/health/ready")(_ready)
    return api


def _awaiting(act: Act) -> Callable[[MetadataRequest], Awaitable[Answer]]:
    async def take(body: MetadataRequest) -> Answer:
        await cast("Awaitable[object]", act(body.url))
        return _answer(body)

    return take


def _calling(act: Act) -> Callable[[MetadataRequest], Answer]:
    def take(body: MetadataRequest) -> Answer:
        act(body.url)
        return _answer(body)

    return take


def _answer(body: MetadataRequest) -> Answer:
    return {"status": "QUEUED", "url": body.url}


async def _ready() -> Answer:
    """Answer as the real API does, so that the same code can wait for it."""
    return {"status": "ready"}


async def _do_nothing(_url: str) -> None:
    pass


app = make_api(_do_nothing)
