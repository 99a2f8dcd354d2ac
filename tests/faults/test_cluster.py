"""A RabbitMQ cluster of three nodes that loses one of them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dev.servers import MongoDB, RabbitMQ
from dev.stack import running
from tests.load import Load, assert_nothing_is_lost
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
        yield nodes


@pytest.fixture
def clustered(
    tmp_path: Path, nodes: list[RabbitMQ], mongodb: MongoDB, unique_name: str
) -> Iterator[Service]:
    service = Service(tmp_path, nodes[0], mongodb, unique_name)
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    service.environment["BROKER_URL"] = f"amqp://guest:guest@{hosts}/"
    with closing(service):
        yield service


def leader(nodes: list[RabbitMQ], queue: str) -> RabbitMQ:
    table = nodes[0].ctl("--quiet", "list_queues", "--no-table-headers", "name", "leader")
    leaders = dict(line.split("\t") for line in table.splitlines())
    return next(node for node in nodes if node.node == leaders[queue])


def test_killing_the_leader_of_the_request_queue_loses_nothing(
    clustered: Service, nodes: list[RabbitMQ], site: Site
) -> None:
    api, worker = started(clustered.api(), clustered.worker())
    load = Load(clustered, api, (site.url(f"/slow/20/{n}") for n in range(1_000_000))).start()
    worker.wait_for_event("metadata_persisted", count=50)
    killed = leader(nodes, f"{clustered.name}.requests")
    killed.kill()
    clustered.rabbitmq = next(node for node in nodes if node is not killed)
    before = len(load.accepted)
    eventually(lambda: len(load.accepted), lambda count: count > before + 50, within=120)
    load.stop()
    assert set(load.answers) <= {202, 503}
    assert_nothing_is_lost(clustered, site)
