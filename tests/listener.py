"""Listens to the events of a service, on a queue of its own, as another team would.

For each event it asks the database at once whether the outcome is there that the event tells of.
"""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from threading import Event, Thread
from typing import Any, Self
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from pamqp.common import FieldValue
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from app.broker.cluster import broker_urls, connection_error_if_closed


@dataclass(frozen=True, slots=True)
class Heard:
    """One copy of an event."""

    event_id: str
    url: str
    body: bytes
    is_stored: bool
    """Whether the outcome was in the database when the event came."""


class Listener:
    """Keeps every event that comes while it is open, through outages of broker and database."""

    def __init__(
        self, broker_url: str, exchange: str, pages: Collection[dict[str, Any]], *, quorum: bool
    ) -> None:
        self.heard: list[Heard] = []
        self._urls = cycle(broker_urls(broker_url))
        self._exchange = exchange
        self._arguments: dict[str, FieldValue] = {"x-queue-type": "quorum"} if quorum else {}
        self._pages = pages.with_options(read_concern=ReadConcern("majority"))
        self._listening, self._closing = Event(), Event()
        self._thread = Thread(target=lambda: asyncio.run(self._listen()))

    def open(self) -> Self:
        """Return once the queue is bound, so that no event is missed from now on."""
        self._thread.start()
        assert self._listening.wait(30), "the broker did not let the listener bind its queue"
        return self

    def close(self) -> None:
        self._closing.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    async def _listen(self) -> None:
        while not self._closing.is_set():
            with suppress(*CONNECTION_EXCEPTIONS), connection_error_if_closed():
                await self._listen_until_the_connection_is_lost()
            await asyncio.sleep(0.1)

    async def _listen_until_the_connection_is_lost(self) -> None:
        async with asyncio.timeout(10):
            connection = await aio_pika.connect(next(self._urls))
        async with connection, connection.channel() as channel:
            await channel.set_qos(prefetch_count=50)
            exchange = await channel.declare_exchange(self._exchange, "topic", durable=True)
            queue = await channel.declare_queue(
                f"listener-{self._exchange}", durable=True, arguments=self._arguments
            )
            await queue.bind(exchange, "page.*")
            await queue.consume(self._hear)
            self._listening.set()
            while not self._closing.is_set() and not channel.is_closed:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        body = json.loads(message.body)
        is_stored = await asyncio.to_thread(self._is_stored, body)
        self.heard.append(Heard(body["id"], body["subject"], message.body, is_stored))
        with suppress(*CONNECTION_EXCEPTIONS), connection_error_if_closed():
            await message.ack()

    def _is_stored(self, event: dict[str, Any]) -> bool:
        """Say whether the outcome is stored; the database may be away for a while."""
        told = {"processing.outcomes.event.event_id": UUID(event["id"])}
        since_deleted = {"deleted_at": {"$exists": True}}
        while not self._closing.is_set():
            with suppress(PyMongoError):
                found = {"url": event["subject"], "$or": [told, since_deleted]}
                return self._pages.find_one(found, {"_id": True}) is not None
            time.sleep(0.1)
        return True
