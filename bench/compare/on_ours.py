"""Our publisher, built from the same parts and with the same logging as in the API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import uvloop

from app.assembly import assemble
from app.broker.publisher import RequestPublisher
from app.models import PageRequest
from app.runtime.logs import configure_logging
from app.runtime.settings import load_settings
from bench.compare.sending import Sending


def send(sending: Sending) -> None:
    """Send from tasks over one channel; the tasks await their confirms side by side."""
    uvloop.run(_send(sending))


async def _send(sending: Sending) -> None:
    async with publishing() as publisher:
        await sending.in_tasks(lambda url: publisher.publish(new_request(url)))


def new_request(url: str) -> PageRequest:
    """Return the request that the API would make of a POST."""
    return PageRequest(url, uuid4(), datetime.now(UTC))


@asynccontextmanager
async def publishing() -> AsyncIterator[RequestPublisher]:
    """Connect, declare the queues, and close when the block is left."""
    settings = load_settings()
    configure_logging(service_name="api", level=settings.log_level, log_format=settings.log_format)
    parts = assemble(settings, service_name="api")
    publisher = RequestPublisher(parts.sender, parts.topology)
    await parts.connection.open()
    yield publisher
    await parts.sender.close()
