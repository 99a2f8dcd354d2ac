"""The service with the rights that Compose gives it, on the real servers."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pymongo
import pytest

from app.assembly import topology_of
from app.broker.event_stream import open_events
from dev.servers import MongoDB, RabbitMQ
from dev.stack import ROOT
from tests.command_line import pagemeta
from tests.keys import bearer
from tests.plain_http import CLIENT
from tests.service import Service, started
from tests.site import Site

PERMISSIONS = (ROOT / "deploy/rabbitmq/permissions.conf").read_text()
USER, PASSWORD = "metadata", "secret"


def permission(kind: str) -> str:
    found = re.search(rf"^default_permissions\.{kind} = (.*)$", PERMISSIONS, re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ, unique_name: str) -> Iterator[str]:
    """A user and a virtual host as in Compose: queue names begin with `metadata.` there."""
    rabbitmq.ctl("add_vhost", unique_name)
    rabbitmq.ctl("add_user", unique_name, PASSWORD)
    rights = [permission(kind) for kind in ("configure", "write", "read")]
    rabbitmq.ctl("set_permissions", "--vhost", unique_name, unique_name, *rights)
    yield f"amqp://{unique_name}:{PASSWORD}@127.0.0.1:{rabbitmq.port}/{unique_name}"
    rabbitmq.ctl("delete_user", unique_name)
    rabbitmq.ctl("delete_vhost", unique_name)


@pytest.fixture
def database_url(mongodb: MongoDB, unique_name: str) -> str:
    roles = [{"role": "readWrite", "db": unique_name}]
    with pymongo.MongoClient[dict[str, object]](mongodb.url) as client:
        client[unique_name].command("createUser", USER, pwd=PASSWORD, roles=roles)
    return f"mongodb://{USER}:{PASSWORD}@127.0.0.1:{mongodb.port}/?authSource={unique_name}"


def test_the_rights_of_compose_are_enough_for_the_whole_service(
    service: Service, site: Site, broker_url: str, database_url: str
) -> None:
    settings = {
        "BROKER_URL": broker_url,
        "BROKER_QUEUE_NAME": "metadata.requests",
        "DATABASE_URL": database_url,
        "PAGES_RETENTION_DAYS": "30",
    }
    api, worker = started(service.api(**settings), service.worker(**settings))
    # Another number of days replaces an index.
    with_keys = service.api(
        **settings | {"API_AUTH": "required", "PAGES_RETENTION_DAYS": "7"}
    ).start()
    key = pagemeta(service, "keys", "create", "first", "--scope", "metrics", **settings).stdout
    answer = CLIENT.get(f"{with_keys.url}/metrics", headers=bearer(key.strip()))
    assert answer.status_code == 200
    service.post(api, site.url("/page"))
    assert service.ended(api, site.url("/page"))["status"] == "COMPLETED"
    service.post(api, site.url("/status/503/page"))
    worker.wait_for_event("metadata_retryable_failure")
    # Those of the command line, which declares a queue of its own, are enough too.
    event = asyncio.run(followed(service, settings))
    assert event["subject"] == site.url("/page")


async def followed(service: Service, settings: dict[str, str]) -> dict[str, Any]:
    """Publish the events of stored outcomes again until one is seen by whoever follows them."""
    topology = topology_of(service.settings.model_copy(update={"broker_queue_name": "metadata.r"}))
    async with (
        asyncio.timeout(30),
        open_events(settings["BROKER_URL"], topology, timeout_seconds=5) as stream,
        aclosing(stream.follow([])) as events,
    ):
        first = asyncio.create_task(anext(events))
        while not first.done():
            again = ("republish", "--since", "2026-01-01")
            ran = await asyncio.to_thread(pagemeta, service, *again, **settings)
            assert ran.exit_code == 0, ran.output
        return await first
