"""Names for queues and a database that only one run uses, for servers that other programs use too.

RabbitMQ and MongoDB may be servers that BROKER_URL and DATABASE_URL name and that hold data of
others. Whoever works there under private names disturbs nobody and can delete everything at the
end.
"""

import asyncio
import secrets
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from app.assembly import topology_of
from app.broker.cluster import connected
from app.errors import BrokerUnreachable
from app.runtime.settings import Settings, load_settings
from dev.stack import Say

TIMEOUT_SECONDS = 10


@contextmanager
def private_names(
    environment: Mapping[str, str], *, started_here: Container[str], say: Say
) -> Iterator[dict[str, str]]:
    """Yield the environment with queue and database names that nobody else uses.

    When the block is left, the queues and the database are deleted. A server that this run has
    started itself is skipped, because its data are deleted with it; `started_here` holds the
    variables, BROKER_URL or DATABASE_URL, that name such servers.
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
        if "BROKER_URL" not in started_here:
            say(f"Deleting the queues demo-{token}.* ...")
            _delete_queues(settings, say)
        if "DATABASE_URL" not in started_here:
            say(f"Deleting the database {settings.database_name} ...")
            _delete_database(settings, say)


def _settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings that a process started with this environment reads."""
    fields = {name.lower(): value for name, value in environment.items()}
    known = {name: value for name, value in fields.items() if name in Settings.model_fields}
    return Settings.model_validate({**load_settings().model_dump(), **known})


def _delete_queues(settings: Settings, say: Say) -> None:
    try:
        asyncio.run(asyncio.wait_for(_delete_each_queue(settings), TIMEOUT_SECONDS))
    except (BrokerUnreachable, TimeoutError) as exc:
        say(f"  they could not be deleted: {exc!r}")


async def _delete_each_queue(settings: Settings) -> None:
    async with (
        connected(settings.broker_url, timeout_seconds=TIMEOUT_SECONDS) as connection,
        connection.channel() as channel,
    ):
        for queue in topology_of(settings):
            await channel.queue_delete(queue.name)


def _delete_database(settings: Settings, say: Say) -> None:
    try:
        with MongoClient[dict[str, object]](
            settings.database_url, timeoutMS=TIMEOUT_SECONDS * 1000
        ) as client:
            client.drop_database(settings.database_name)
    except PyMongoError as exc:
        say(f"  it could not be deleted: {exc!r}")
