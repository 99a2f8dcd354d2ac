"""The listeners in `examples/` hear what the real service tells, each as a process of its own."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from app.store.indexes import SOME_UNPUBLISHED
from dev.node import Node
from dev.servers import MongoDB, RabbitMQ, free_port
from dev.stack import ROOT, Api, Worker
from tests.command_line import pagemeta
from tests.example_listener import EXAMPLES, QUEUE, Event, listening
from tests.generated_models import node_or_skip, read_by_node, read_by_python
from tests.plain_http import CLIENT
from tests.service import Service, eventually, started
from tests.site import Site


@pytest.fixture
def node() -> Node:
    return node_or_skip("the listener for Node.js")


def something_happens(service: Service, api: Api, site: Site) -> list[Event]:
    """Have a page completed, confirmed, failed and deleted; return what is to be heard of it."""
    page, kept, broken = site.url("/tagged/page"), site.url("/kept"), "http://no-such-host.invalid/"
    for _ in range(2):
        request_id = service.post(api, page).json()["request_id"]
        wait_until_completed(service, api, request_id)
    for url in (kept, broken):
        service.post(api, url)
        service.ended(api, url)
    assert CLIENT.delete(f"{api.url}/metadata", params={"url": page}).status_code == 204
    return [
        ("completed", page, "/tagged/page"),
        ("unchanged", page, "/tagged/page"),
        ("completed", kept, "/kept"),
        ("failed", broken, "dns"),
        ("deleted", page, ""),
    ]


def wait_until_completed(service: Service, api: Api, request_id: str) -> None:
    eventually(
        lambda: service.request_state(api, request_id)["status"],
        lambda status: status == "COMPLETED",
    )


@pytest.fixture
def deployment(service: Service) -> tuple[Api, Worker]:
    return started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="1"))


# --- The listeners ---


def test_the_faststream_listener_hears_each_event_once(
    service: Service, deployment: tuple[Api, Worker], site: Site
) -> None:
    command = [sys.executable, "-m", "faststream", "run", "listener:app"]
    hears_each_event_once(service, deployment[0], site, command, "faststream_listener")


def test_the_aio_pika_listener_needs_only_the_document_of_the_running_service(
    service: Service, deployment: tuple[Api, Worker], site: Site
) -> None:
    api, _ = deployment
    document = service.folder / "worker.yaml"
    document.write_text(CLIENT.get(f"{api.url}/asyncapi/worker.yaml").text)
    arguments = [str(document), service.rabbitmq.url, f"{service.name}.{QUEUE}"]
    # Isolated, so that it can import nothing of the service.
    script = str(EXAMPLES / "aio_pika_listener" / "listener.py")
    command = [sys.executable, "-I", script, *arguments]
    hears_each_event_once(service, api, site, command, "aio_pika_listener")


def test_the_node_listener_takes_real_messages_by_generated_models(
    service: Service, deployment: tuple[Api, Worker], site: Site, node: Node
) -> None:
    node.install(EXAMPLES / "node_listener")
    hears_each_event_once(
        service, deployment[0], site, [node.node, "listener.mjs"], "node_listener"
    )


def hears_each_event_once(
    service: Service, api: Api, site: Site, command: Sequence[str], example: str
) -> None:
    with listening(service, command, EXAMPLES / example) as listener:
        expected = something_happens(service, api, site)
        listener.wait_for(*expected)
        # The same events with the same ids: of the deleted page only its deletion is kept.
        ran = pagemeta(service, "republish", "--since", "2026-01-01T00:00:00Z", "--json")
        assert json.loads(ran.stdout) == {"published": 3, "refused": 0}
        url = site.url("/last")
        service.post(api, url)
        listener.wait_for(*expected, ("completed", url, "/last"))
        # A deletion has the outcome before it told once more, by the next sweep of the worker.
        eventually(lambda: service.pages.count_documents(SOME_UNPUBLISHED), lambda count: not count)
        eventually(lambda: service.queue(QUEUE).ready, lambda ready: ready == 0)
        eventually(service.unacknowledged, lambda count: count == 0)
        assert listener.stop() == 0
    assert service.queue(QUEUE).ready == 0


# --- Generated models ---


def test_generated_models_take_real_messages(
    service: Service, deployment: tuple[Api, Worker], site: Site, node: Node
) -> None:
    asyncio.run(bind(service))
    expected = something_happens(service, deployment[0], site)
    eventually(lambda: service.queue("models").ready, lambda ready: ready == len(expected))
    events = asyncio.run(taken(service, len(expected)))
    assert read_by_python(events) == read_by_node(node, events) == events


async def bind(service: Service) -> None:
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"{service.name}.models", durable=True)
        await queue.bind(f"{service.name}.events", "page.*")


async def taken(service: Service, count: int) -> list[Any]:
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(f"{service.name}.models")
        return [json.loads((await queue.get(no_ack=True)).body) for _ in range(count)]


# --- docs/events.md ---


def test_the_commands_in_the_document_add_a_queue(
    tmp_path: Path, mongodb: MongoDB, unique_name: str, site: Site
) -> None:
    (commands,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/events.md").read_text(), re.DOTALL)
    port = free_port()
    with (
        RabbitMQ(tmp_path / "rabbitmq", name=unique_name, management_port=port) as rabbitmq,
        # The names in the document are those of the default settings.
        closing(Service(tmp_path, rabbitmq, mongodb, "metadata")) as service,
    ):
        api, _ = started(service.api(), service.worker())
        here = commands.replace("localhost:15672", f"127.0.0.1:{port}")
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", here], capture_output=True, check=False, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        service.post(api, site.url("/page"))
        columns = ("list_queues", "--no-table-headers", "name", "messages", "policy", "type")
        eventually(lambda: rabbitmq.ctl(*columns), lambda rows: "my-team.pages\t1\t" in rows)
        assert "my-team.pages\t1\t\tquorum" in rabbitmq.ctl(*columns)
