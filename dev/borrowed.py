"""Servers that others use too: work there under names of one's own, and leave nothing behind."""

import asyncio
import secrets
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from app.broker.cluster import broker_urls
from app.broker.topology import build_topology
from app.runtime.settings import Settings, load_settings
from dev.stack import Say

TIMEOUT_SECONDS = 10


@contextmanager
def names_of_our_own(
    environment: Mapping[str, str], *, ours: Container[str], say: Say
) -> Iterator[dict[str, str]]:
    """Yield an environment whose queues and database nobody else has.

    They are deleted when the block is left, on each server whose variable is not among `ours`.
    """
    token = secrets.token_hex(3)
    names = {
        "BROKER_QUEUE_NAME": f"demo-{token}.requests",
        "DATABASE_NAME": f"metadata_demo_{token}",
    }
    try:
        yield {**environment, **names}
    finally:
        settings = _settings({**environment, **names})
        if "BROKER_URL" not in ours:
            say(f"Deleting the queues demo-{token}.* ...")
            _delete_queues(settings, say)
        if "DATABASE_URL" not in ours:
            say(f"Deleting the database {settings.database_name} ...")
            _delete_database(settings, say)


def _settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings as a process with this environment would."""
    fields = {name.lower(): value for name, value in environment.items()}
    known = {name: value for name, value in fields.items() if name in Settings.model_fields}
    return Settings.model_validate({**load_settings().model_dump(), **known})


def _delete_queues(settings: Settings, say: Say) -> None:
    try:
        asyncio.run(asyncio.wait_for(_delete_each_queue(settings), TIMEOUT_SECONDS))
    except (OSError, TimeoutError, aio_pika.exceptions.AMQPError) as exc:
        say(f"  they could not be deleted: {exc!r}")


async def _delete_each_queue(settings: Settings) -> None:
    topology = build_topology(
        queue_name=settings.broker_queue_name,
        queue_type=settings.broker_queue_type,
        max_length=settings.broker_queue_max_length,
        retry_delays_seconds=settings.worker_retry_delays_seconds,
    )
    connection = await _connect(broker_urls(settings.broker_url))
    async with connection, connection.channel() as channel:
        for queue in topology:
            await channel.queue_delete(queue.name)


async def _connect(urls: Sequence[str]) -> AbstractConnection:
    for url in urls:
        with suppress(OSError):
            return await aio_pika.connect(url)
    raise ConnectionError("RabbitMQ does not answer")


def _delete_database(settings: Settings, say: Say) -> None:
    try:
        with MongoClient[dict[str, object]](
            settings.database_url, timeoutMS=TIMEOUT_SECONDS * 1000
        ) as client:
            client.drop_database(settings.database_name)
    except PyMongoError as exc:
        say(f"  it could not be deleted: {exc!r}")
