"""Listens to the inventory of pages with FastStream: one typed handler for every event.

    faststream run listener:app

The environment says where: `AMQP_URL`, and `EXCHANGE` and `QUEUE` if the names are others than
those below.
"""

import json
import os
from collections import OrderedDict
from datetime import datetime
from typing import Any
from uuid import UUID

from faststream import AckPolicy, FastStream
from faststream.rabbit import ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel

# The exchange as the service declares it. The broker refuses any other type or durability.
EXCHANGE = RabbitExchange(
    os.getenv("EXCHANGE", "metadata.events"), ExchangeType.TOPIC, durable=True
)

# The queue of this listener: it keeps events while no listener runs.
QUEUE = RabbitQueue(
    os.getenv("QUEUE", "faststream-listener.pages"),
    QueueType.QUORUM,
    durable=True,
    routing_key="page.*",
    arguments={
        # Whoever is away for long loses the oldest events, and the broker's disk does not fill.
        # With `reject-publish` in place of `drop-head` it would lose the newest.
        "x-max-length": 100_000,
        "x-overflow": "drop-head",
        # An event that cannot be handled is tried again so often, and then dropped.
        "x-delivery-limit": 5,
    },
)

REMEMBERED = 10_000
"""How many ids are kept to recognise events that arrive again."""


class Error(BaseModel):
    """Why a page could not be fetched."""

    kind: str
    message: str


class Page(BaseModel):
    """What this listener needs of an event's `data`. Pydantic ignores all other fields."""

    url: str
    status: str
    title: str | None = None
    status_code: int | None = None
    body_sha256: str | None = None
    checked_at: datetime | None = None
    error: Error | None = None


class PageEvent(BaseModel):
    """An event: a CloudEvent in JSON, with its times and ids as Python has them."""

    id: UUID
    type: str
    time: datetime
    data: Page

    @property
    def kind(self) -> str:
        """What has happened: completed, unchanged, failed, deleted, or what a later version has."""
        return self.type.removeprefix("page-metadata.page.").removesuffix(".v1")


async def decode(message: Any) -> Any:
    """Read the body as JSON: FastStream does so by itself for `application/json` alone."""
    return json.loads(message.body)


broker = RabbitBroker(os.getenv("AMQP_URL", "amqp://guest:guest@localhost/"), decoder=decode)
app = FastStream(broker)

_handled: OrderedDict[UUID, None] = OrderedDict()


# A handler that returns acknowledges the event; one that raises has it delivered again.
@broker.subscriber(QUEUE, EXCHANGE, ack_policy=AckPolicy.NACK_ON_ERROR, no_reply=True)
async def on_event(event: PageEvent) -> None:
    """Do the work for an event, once."""
    if event.id in _handled:
        return
    await work(event)
    # Only now: an event whose work has failed is not to be taken for one that arrives again.
    _handled[event.id] = None
    if len(_handled) > REMEMBERED:
        _handled.popitem(last=False)


async def work(event: PageEvent) -> None:
    """Put your own work here. This only prints."""
    page = event.data
    detail = page.error.kind if page.error else page.title or ""
    print(f"{event.time:%H:%M:%S} {event.kind:9} {page.url} {detail}".rstrip(), flush=True)
