"""`/metrics`: what this process counts, for Prometheus."""

from fastapi import APIRouter, Response

from app import metrics
from app.api.dependencies import ConnectionDep
from app.broker.queues import observe

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
async def show_metrics(connection: ConnectionDep) -> Response:
    """Return every metric as it is now."""
    await observe(connection)
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)
