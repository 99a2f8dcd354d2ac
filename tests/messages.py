"""Messages put into a queue by hand."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from uuid import uuid4

import aio_pika
import aiormq
from pamqp.commands import Basic
from pamqp.common import FieldValue
from pydantic import ValidationError

from app.assembly import topology_of
from app.broker.cluster import connected
from app.broker.messages import MetadataRequested
from dev.servers import RabbitMQ
from tests.history import History
from tests.service import Service


def publish(service: Service, bodies: Iterable[bytes], queue: str = "requests") -> None:
    """Publish bodies to a queue, named without its prefix, all at once.

    The history notes requests as accepted, and the others as malformed.
    """
    bodies, sent = list(bodies), time.monotonic()
    asyncio.run(publish_to(service.rabbitmq.url, f"{service.name}.{queue}", bodies))
    for body in bodies:
        _note(service.history, body, sent)


def _note(history: History, body: bytes, sent: float) -> None:
    try:
        request = MetadataRequested.model_validate_json(body)
    except ValidationError:
        history.malformed.append(body)
    else:
        history.note_post(request.url, sent, HTTPStatus.ACCEPTED, str(request.request_id))


def a_message(url: str) -> bytes:
    """Return the body of a request for a page."""
    requested_at = datetime.now(UTC).isoformat()
    fields = {"url": url, "request_id": str(uuid4()), "requested_at": requested_at, "attempt": 1}
    return json.dumps(fields).encode()


async def publish_to(url: str, queue: str, bodies: list[bytes]) -> None:
    """Publish bodies to a queue, named in full."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        sending = [
            channel.default_exchange.publish(
                aio_pika.Message(body, content_type="application/json"), routing_key=queue
            )
            for body in bodies
        ]
        await asyncio.gather(*sending)


def publish_with(service: Service, properties: bytes, body: bytes) -> None:
    """Publish one request with these properties, as they are to be on the wire."""
    sent = time.monotonic()
    asyncio.run(_publish_raw(service.rabbitmq.url, f"{service.name}.requests", properties, body))
    _note(service.history, body, sent)


async def _publish_raw(url: str, queue: str, properties: bytes, body: bytes) -> None:
    async with await aiormq.connect(url) as connection:
        channel = await connection.channel()
        raw = _RawProperties(properties)
        await channel.basic_publish(body, routing_key=queue, properties=raw)


class _RawProperties(Basic.Properties):
    """Properties that pamqp would not encode."""

    def __init__(self, on_the_wire: bytes) -> None:
        super().__init__(message_id="left out")
        self._on_the_wire = on_the_wire

    def marshal(self) -> bytes:
        return self._on_the_wire


def bind_to_events(service: Service, url: str, arguments: dict[str, FieldValue]) -> None:
    """Bind one more queue to the events, as another team would; nobody consumes it."""

    async def bind() -> None:
        async with connected(url, timeout_seconds=10) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(
                topology_of(service.settings).events.name, "topic", durable=True
            )
            queue = await channel.declare_queue(
                f"other-{service.name}", durable=True, arguments=arguments
            )
            await queue.bind(exchange, "page.*")

    asyncio.run(bind())


@contextmanager
def retries_refused(service: Service) -> Iterator[None]:
    """Have each queue of a delay take one message, and refuse the next until that is gone.

    So does a quorum queue of no length.
    """
    full = ("set_policy", service.name, f"^{service.name}.retry", '{"max-length":0}')
    service.rabbitmq.ctl(*full, "--apply-to", "queues")
    try:
        yield
    finally:
        service.rabbitmq.ctl("clear_policy", service.name)


def move_dead_letters_within(node: RabbitMQ, *, seconds: int) -> None:
    """Have a broker try again so soon to move a dead letter, instead of after three minutes.

    It holds for queues that are declared afterwards.
    """
    setting = f"dead_letter_worker_publisher_confirm_timeout, {seconds * 1000}"
    node.ctl("eval", f"application:set_env(rabbit, {setting}).")
