"""The worker's `/health`: is the process alive, and is it consuming."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from faststream.asgi import AsgiResponse, get
from faststream.asgi.types import ASGIApp, Scope
from loguru import logger

from app.assembly import Parts

HealthRoutes = Sequence[tuple[str, ASGIApp]]


def health_routes(parts: Parts) -> HealthRoutes:
    """Return `/health/live` and `/health/ready` for the worker's own port."""

    @get
    async def live(_scope: Scope) -> AsgiResponse:
        return _json({"status": "ok"}, HTTPStatus.OK)

    @get
    async def ready(_scope: Scope) -> AsgiResponse:
        reason = await _why_not_ready(parts)
        if reason is None:
            return _json({"status": "ready"}, HTTPStatus.OK)
        logger.warning("readiness_failed", reason=reason)
        return _json({"status": "not_ready", "reason": reason}, HTTPStatus.SERVICE_UNAVAILABLE)

    return [("/health/live", live), ("/health/ready", ready)]


async def _why_not_ready(parts: Parts) -> str | None:
    if reason := parts.connection.why_not_ready():
        return reason
    if not all(subscriber.running for subscriber in parts.broker.subscribers):
        return "not consuming"
    if not await parts.database.ping():
        return "database does not answer"
    return None


def _json(body: dict[str, Any], status: HTTPStatus) -> AsgiResponse:
    return AsgiResponse(
        json.dumps(body).encode(), int(status), headers={"content-type": "application/json"}
    )
