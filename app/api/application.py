"""The API as an application: its parts, its lifespan, its routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from loguru import logger

from app import __version__
from app.api import docs, probes, routes
from app.api.middleware import BodyLimit, RequestObserver
from app.api.openapi import TAGS, complete_openapi
from app.api.problems import add_problem_handlers
from app.assembly import assemble
from app.broker.publisher import RequestPublisher
from app.contract.documents import Documents
from app.runtime.process import end_process, spare_the_collector, stopping_at_once
from app.runtime.settings import Settings
from app.runtime.tracing import NO_TRACING, Tracing
from app.services import Inventory


def create_app(settings: Settings, tracing: Tracing = NO_TRACING) -> FastAPI:
    """Build the API; connections open in its lifespan."""
    parts = assemble(settings, service_name="api", tracing=tracing)
    publisher = RequestPublisher(parts.sender, parts.topology)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with stopping_at_once():
            await parts.database.open()
            await parts.connection.open()
        spare_the_collector()
        logger.info("api_started")
        yield
        # The publisher first: what it has in flight may still be recorded.
        await parts.sender.close()
        await parts.database.close()
        await asyncio.to_thread(tracing.stop)
        logger.info("api_stopped")
        end_process()

    app = FastAPI(
        title="Page metadata",
        version=__version__,
        summary="An inventory of web pages: headers, cookies and page source.",
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
    )
    app.state.inventory = Inventory(publisher=publisher, pages=parts.pages)
    app.state.connection = parts.connection
    app.state.database = parts.database
    app.state.broker = parts.broker
    app.include_router(routes.router)
    app.include_router(probes.router)
    docs.serve_docs(app, Documents(parts.broker, parts.topology))
    complete_openapi(app)
    app.add_middleware(BodyLimit)
    add_problem_handlers(app)
    # Around what Starlette puts outermost too: it answers the mistakes in the code.
    app.middleware_stack = tracing.around(RequestObserver(app.build_middleware_stack()))
    return app
