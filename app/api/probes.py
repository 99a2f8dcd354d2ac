"""`/health/live`, `/health/ready` and `/metrics` of the API, for the machines that watch it."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from loguru import logger

from app.api.access import KeyedRoute, needs, needs_no_key
from app.api.answers import as_json
from app.api.dependencies import ConnectionDep, DatabaseDep
from app.api.openapi import answer
from app.api.schemas import Health, NotReady
from app.broker.queues import observe
from app.keys import Scope
from app.runtime import metrics

router = APIRouter(route_class=KeyedRoute)


@router.head("/health/live", include_in_schema=False)
@router.get(
    "/health/live",
    tags=["health"],
    summary="Is the process alive?",
    responses=answer(HTTPStatus.OK, "The process is alive", {"Alive": Health(status="ok")}),
)
@needs_no_key
async def live() -> Health:
    """Answer 200: a process that answers is alive."""
    return Health(status="ok")


@router.head("/health/ready", include_in_schema=False)
@router.get(
    "/health/ready",
    tags=["health"],
    summary="Can requests be queued and read?",
    response_model=Health,
    responses=answer(HTTPStatus.OK, "It is ready", {"Ready": Health(status="ready")})
    | answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "It is not ready",
        {
            "No broker": NotReady(reason="publisher is RECONNECTING"),
            "No database": NotReady(reason="database does not answer"),
        },
        model=NotReady,
    ),
)
@needs_no_key
async def ready(connection: ConnectionDep, database: DatabaseDep) -> Response:
    """Answer 200 only if the publisher is READY and the database answers in time."""
    reason = connection.why_not_ready() or await database.why_not_ready()
    if reason is None:
        return as_json(Health(status="ready"), HTTPStatus.OK)
    logger.warning("readiness_failed", reason=reason)
    return as_json(NotReady(reason=reason), HTTPStatus.SERVICE_UNAVAILABLE)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", include_in_schema=False)
@needs(Scope.METRICS)
async def show_metrics(connection: ConnectionDep) -> Response:
    """Return every metric; those about the queues are asked of the broker first."""
    await observe(connection)
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)
