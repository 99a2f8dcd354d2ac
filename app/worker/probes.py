"""`/health/live`, `/health/ready` and `/metrics` of a worker, on the worker's own port."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from faststream.asgi import AsgiResponse, get
from faststream.asgi.types import ASGIApp, Scope
from loguru import logger

from app.assembly import Parts
from app.broker.connection import BrokerConnection
from app.broker.queues import observe
from app.runtime import metrics

Routes = Sequence[tuple[str, ASGIApp]]


def health_routes(parts: Parts, consumer: BrokerConnection) -> Routes:
    """Return the paths that the worker answers, and what answers them."""

    @get
    async def live(_scope: Scope) -> AsgiResponse:
        return _json({"status": "ok"}, HTTPStatus.OK)

    @get
    async def ready(_scope: Scope) -> AsgiResponse:
        reason = await _why_not_ready(parts, consumer)
        if reason is None:
            return _json({"status": "ready"}, HTTPStatus.OK)
        logger.warning("readiness_failed", reason=reason)
        return _json({"status": "not_ready", "reason": reason}, HTTPStatus.SERVICE_UNAVAILABLE)

    @get
    async def show_metrics(_scope: Scope) -> AsgiResponse:
        await observe(parts.connection)
        return AsgiResponse(
            metrics.exposition(), int(HTTPStatus.OK), headers={"content-type": metrics.CONTENT_TYPE}
        )

    return [("/health/live", live), ("/health/ready", ready), ("/metrics", show_metrics)]


async def _why_not_ready(parts: Parts, consumer: BrokerConnection) -> str | None:
    if reason := parts.connection.why_not_ready() or consumer.why_not_ready():
        return reason
    if not all(subscriber.running for subscriber in consumer.broker.subscribers):
        return "not consuming"
    return await parts.database.why_not_ready()


def _json(body: dict[str, Any], status: HTTPStatus) -> AsgiResponse:
    return AsgiResponse(
        json.dumps(body).encode(), int(status), headers={"content-type": "application/json"}
    )
