"""A RabbitMQ cluster of three nodes that loses one of them."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from aio_pika.exceptions import AMQPException
from pamqp.common import FieldValue

from app.assembly import topology_of
from app.broker.cluster import connected
from app.broker.topology import declare
from dev.servers import MongoDB, RabbitMQ
from dev.stack import Api, running
from tests.load import Load, assert_nothing_is_lost
from tests.messages import bind_to_events, move_dead_letters_within, publish
from tests.service import Service, eventually, started
from tests.site import Site

NODES = 3


@pytest.fixture
def nodes(tmp_path: Path, unique_name: str) -> Iterator[list[RabbitMQ]]:
    nodes = [RabbitMQ(tmp_path / f"node-{n}", name=f"{unique_name}-{n}") for n in range(NODES)]
    with running(*nodes):
        for node in nodes[1:]:
            node.ctl("stop_app")
            node.ctl("join_cluster", nodes[0].node)
            node.ctl("start_app")
        # What no queue has confirmed RabbitMQ offers again after three minutes, if not told else.
        for node in nodes:
            move_dead_letters_within(node, seconds=2)
        yield nodes


@pytest.fixture
def clustered(
    tmp_path: Path, nodes: list[RabbitMQ], mongodb: MongoDB, unique_name: str
) -> Iterator[Service]:
    service = Service(tmp_path, nodes[0], mongodb, unique_name)
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    service.environment["BROKER_URL"] = f"amqp://guest:guest@{hosts}/"
    with closing(service):
        service.listen(quorum=True)
        yield service


def leader(nodes: list[RabbitMQ], queue: str) -> RabbitMQ:
    table = nodes[0].ctl("--quiet", "list_queues", "--no-table-headers", "name", "leader")
    leaders = dict(line.split("\t") for line in table.splitlines())
    return next(node for node in nodes if node.node == leaders[queue])


def load_of(service: Service, api: Api, site: Site) -> Load:
    """Return a load of pages of which every third answers 503 at first."""
    paths = (f"/flaky/1/{n}" if n % 3 == 0 else f"/slow/20/{n}" for n in count())
    return Load(service, api, (site.url(path) for path in paths))


def test_killing_the_node_that_leads_all_queues_loses_nothing(
    clustered: Service, nodes: list[RabbitMQ], site: Site
) -> None:
    """The first process to start declares the queues, so their leaders are on its node.

    The API accepts pages, and workers finish them, while the node is away. It is back before the
    pages are counted: RabbitMQ 3.10 may look for the queue that a retry is moved to on this node
    alone, if both queues get their new leaders at one moment.
    """
    api, worker = started(clustered.api(), clustered.worker())
    load = load_of(clustered, api, site).start()
    worker.wait_for_event("metadata_persisted", count=50)
    killed = leader(nodes, f"{clustered.name}.requests")
    killed.kill()
    clustered.rabbitmq = next(node for node in nodes if node is not killed)
    accepted, finished = len(load.accepted), len(worker.events("metadata_persisted"))
    eventually(lambda: len(load.accepted), lambda count: count > accepted + 50, within=120)
    worker.wait_for_event("metadata_persisted", count=finished + 50, deadline=120)
    load.stop()
    assert set(load.answers) <= {202, 503}
    killed.start()
    assert_nothing_is_lost(clustered, site, within=120)


@pytest.mark.parametrize("queue", ["requests", "retries", "retry.1s", "dead"])
def test_killing_the_leader_of_one_queue_loses_nothing(
    clustered: Service, nodes: list[RabbitMQ], site: Site, queue: str
) -> None:
    asyncio.run(_declare_on(nodes[2], clustered, queue))
    api, worker = started(clustered.api(), clustered.worker())
    assert leader(nodes, f"{clustered.name}.{queue}") is nodes[2]
    # RabbitMQ 3.10 finds the new leader of a queue that is dead-lettered to only for a queue that
    # has moved a message there before.
    for source in ("requests", "retries"):
        publish(clustered, [b"{"], queue=source)
    worker.wait_for_event("message_dead_lettered", count=2)
    load = load_of(clustered, api, site).start()
    worker.wait_for_event("metadata_final_state", attempt=2, count=5)
    nodes[2].kill()
    for source in ("requests", "retries"):
        _publish_until_taken(clustered, b"{", source)
    before = len(load.accepted)
    eventually(lambda: len(load.accepted), lambda count: count > before + 50, within=120)
    load.stop()
    assert set(load.answers) <= {202, 503}
    assert_nothing_is_lost(clustered, site, within=120)


def _publish_until_taken(service: Service, body: bytes, queue: str) -> None:
    """Publish a message to a queue that may have no leader yet and refuses until it has one."""
    for _ in range(60):
        with suppress(AMQPException):
            return publish(service, [body], queue=queue)
        time.sleep(0.5)
    raise AssertionError(f"{queue} took no message within 30 s")


async def _declare_on(node: RabbitMQ, service: Service, queue: str) -> None:
    """Declare a queue on a node, which then is its leader."""
    name = f"{service.name}.{queue}"
    async with connected(node.url, timeout_seconds=10) as connection:
        await declare(
            connection, [each for each in topology_of(service.settings) if each.name == name]
        )


@pytest.mark.parametrize("letters_before", [1, 0])
def test_dead_letters_are_not_lost_while_their_queue_has_no_leader(
    clustered: Service, nodes: list[RabbitMQ], letters_before: int
) -> None:
    """RabbitMQ 3.10 moves them once there is a new leader, if it has moved a dead letter before.

    If it has not, it keeps them in the request queue until the old leader is back. RabbitMQ 4 moves
    them in either case.
    """
    # The worker is on another node.
    asyncio.run(_declare_on(nodes[2], clustered, "dead"))
    worker = clustered.worker().start()
    assert leader(nodes, f"{clustered.name}.dead") is nodes[2]
    publish(clustered, [b"{"] * letters_before)
    eventually(lambda: clustered.queue("dead").ready, lambda count: count == letters_before)
    clustered.rabbitmq = nodes[2]
    clustered.wait_until_queues_are_on_disk()
    clustered.rabbitmq = nodes[0]
    nodes[2].kill()
    publish(clustered, [b"{"] * 5)
    worker.wait_for_event("message_dead_lettered", count=5 + letters_before)
    if not letters_before:
        nodes[2].start()
    expected = 5 + letters_before
    eventually(lambda: clustered.queue("dead").ready, lambda count: count == expected, within=60)


def test_a_queue_of_a_listener_that_is_away_holds_up_no_page(
    clustered: Service, nodes: list[RabbitMQ], site: Site
) -> None:
    """The broker confirms no event while one of the queues it goes to is on a node that is away.

    Then events are put down in the records of their pages, and published by a sweep later.
    """
    alone: dict[str, FieldValue] = {"x-queue-type": "quorum", "x-quorum-initial-group-size": 1}
    bind_to_events(clustered, nodes[2].url, alone)
    environment = {"BROKER_PUBLISH_TIMEOUT_SECONDS": "2"}
    api, worker = started(clustered.api(**environment), clustered.worker(**environment))
    load = load_of(clustered, api, site).start()
    worker.wait_for_event("metadata_persisted", count=50)
    nodes[2].kill()
    worker.wait_for_event("event_put_down", deadline=60)
    finished = len(worker.events("metadata_persisted"))
    worker.wait_for_event("metadata_persisted", count=finished + 50, deadline=60)
    load.stop()
    nodes[2].start()
    worker.wait_for_event("events_swept", deadline=120)
    assert_nothing_is_lost(clustered, site, within=120)
