"""The API as an application: what it consists of, how it starts and how it stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from loguru import logger
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import Receive, Scope, Send

from app import __version__
from app.api import batches, docs, lists, probes, routes
from app.api.access import check_rules
from app.api.answers import READING_BYTES, SENDING_BYTES, LargePages, Room
from app.api.gate import make_gate
from app.api.known_keys import KnownKeys
from app.api.middleware import BodyLimit, RequestObserver, blot_out_keys, own_path
from app.api.openapi import TAGS, complete_openapi
from app.api.problems import BATCHES_BUSY, add_problem_handlers, answer_unforeseen
from app.assembly import Parts, assemble
from app.broker.publisher import EventPublisher, RequestPublisher
from app.broker.queues import queues_watched
from app.contract.documents import Documents
from app.events import Announcer
from app.models import EventKind
from app.runtime.process import called_on_stop, stoppable_at_once
from app.runtime.settings import Settings
from app.runtime.tracing import stop_tracing
from app.services import Inventory
from app.store.keys import KeyRepository
from app.waiting import Waiters

UNTRACED_PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Machines ask for these every few seconds; a trace of it interests nobody."""

TELEMETRY: TelemetryConfig = {
    "metrics": False,  # `RequestObserver` counts and times requests
    "logs": False,  # and logs them
    "operation_spans": False,  # one span for each request is enough
    "exclude": lambda scope: own_path(scope) in UNTRACED_PATHS,
}


class Api(FastAPI):
    """Blots keys out of the target of a request before anything, tracing too, keeps the target."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            blot_out_keys(scope)
        await super().__call__(scope, receive, send)


def create_app(settings: Settings) -> FastAPI:
    """Build the API; its connections open in its lifespan."""
    parts = assemble(settings, service_name="api")
    known_keys = _known_keys(parts) if settings.api_auth == "required" else None
    app = Api(
        title="Page metadata",
        version=__version__,
        summary="An inventory of web pages: headers, cookies and page source.",
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lambda app: _connected(parts, app.state.waiters, known_keys),
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        # `/metadata/` is unknown. A redirect would name whatever host the caller has sent.
        redirect_slashes=False,
        telemetry=TELEMETRY,
    )
    app.state.inventory = Inventory(
        publisher=RequestPublisher(parts.sender, parts.topology),
        pages=parts.pages,
        announcer=_announcer(parts) if settings.events else None,
        min_refresh_seconds=settings.api_min_refresh_seconds,
    )
    app.state.lists = parts.lists
    app.state.waiters = Waiters(parts.pages.answered, most=settings.api_max_waiters)
    app.state.large_pages = LargePages(Room(READING_BYTES), Room(SENDING_BYTES))
    app.state.batch_bytes = Room(batches.HELD_BYTES, when_full=BATCHES_BUSY)
    app.state.batches = Room(batches.AT_ONCE, when_full=BATCHES_BUSY)
    app.state.key_required = known_keys is not None
    app.state.gate = make_gate(known_keys, settings.api_requests_per_minute)
    app.state.connection = parts.connection
    app.state.database = parts.database
    app.state.broker = parts.broker
    app.include_router(routes.router)
    app.include_router(lists.router)
    app.include_router(batches.router)
    app.include_router(probes.router)
    docs.serve_docs(app, Documents(parts.broker, parts.topology, tells=settings.events))
    complete_openapi(app)
    check_rules(app)
    add_problem_handlers(app)
    app.add_middleware(BodyLimit)
    # The middleware added last is the outermost. The observer is to see the answers to unforeseen
    # errors too, so these are not left to the ServerErrorMiddleware, which Starlette puts around
    # all others, and which would have uvicorn log each error a second time.
    app.add_middleware(ExceptionMiddleware, handlers={Exception: answer_unforeseen})
    app.add_middleware(RequestObserver)
    return app


def _known_keys(parts: Parts) -> KnownKeys:
    repository = KeyRepository(parts.database)
    return KnownKeys(repository.all, repository.note_uses)


def _announcer(parts: Parts) -> Announcer:
    publisher = EventPublisher(parts.sender, parts.topology, [EventKind.DELETED])
    return Announcer(publisher, parts.outbox)


@asynccontextmanager
async def _connected(
    parts: Parts, waiters: Waiters, known_keys: KnownKeys | None
) -> AsyncIterator[None]:
    """Connect, let the API serve until uvicorn is told to stop, and disconnect."""
    with stoppable_at_once():
        await parts.database.open()
        await parts.connection.open()
    # uvicorn waits for the answers to requests before it ends the lifespan, so those who wait for a
    # page are to be answered before that.
    with called_on_stop(waiters.close):
        reading_keys = known_keys.kept_fresh() if known_keys else nullcontext()
        async with queues_watched(parts.connection), reading_keys:
            logger.info("api_started")
            yield
    # The publisher first: a message that is in flight may still be recorded.
    await parts.sender.close()
    await parts.database.close()
    await asyncio.to_thread(stop_tracing)
    logger.info("api_stopped")
