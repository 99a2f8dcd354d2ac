"""Three members of a MongoDB replica set on one machine, which loses its primary under load."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pymongo
import pytest

from dev.servers import LOOPBACK, MongoDB, RabbitMQ
from dev.stack import running
from tests.load import Load, assert_nothing_is_lost
from tests.service import Service, eventually, started
from tests.site import Site

MEMBERS = 3


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[MongoDB]]:
    members = [
        MongoDB(tmp_path / f"member-{n}", name=f"mongodb-{n}", replica_set="pages")
        for n in range(MEMBERS)
    ]
    with running(*members):
        _initiate(members)
        yield members


def _initiate(members: list[MongoDB]) -> None:
    hosts = [{"_id": n, "host": f"{LOOPBACK}:{member.port}"} for n, member in enumerate(members)]
    # A primary counts as lost after 10 s by default.
    settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
    with pymongo.MongoClient[dict[str, object]](
        LOOPBACK, members[0].port, directConnection=True
    ) as client:
        client.admin.command(
            "replSetInitiate", {"_id": "pages", "members": hosts, "settings": settings}
        )
    with pymongo.MongoClient[dict[str, object]](members[0].url) as client:
        eventually(lambda: client.primary, bool, within=60)


@pytest.fixture
def replicated(
    tmp_path: Path, rabbitmq: RabbitMQ, members: list[MongoDB], unique_name: str
) -> Iterator[Service]:
    hosts = ",".join(f"{LOOPBACK}:{member.port}" for member in members)
    with closing(Service(tmp_path, rabbitmq, members[0], unique_name)) as service:
        service.environment["DATABASE_URL"] = f"mongodb://{hosts}/?replicaSet=pages"
        service.listen()
        yield service


def _primary(members: list[MongoDB]) -> MongoDB:
    with pymongo.MongoClient[dict[str, object]](members[0].url) as client:
        _, port = eventually(lambda: client.primary, bool, within=30) or ("", 0)
    return next(member for member in members if member.port == port)


def _kill(primary: MongoDB) -> Callable[[], object]:
    primary.kill()
    return primary.start


def _freeze(primary: MongoDB) -> Callable[[], object]:
    primary.pause()
    return primary.resume


@pytest.mark.parametrize("fault", [_kill, _freeze])
def test_a_replica_set_that_loses_its_primary_loses_nothing(
    replicated: Service,
    site: Site,
    members: list[MongoDB],
    fault: Callable[[MongoDB], Callable[[], object]],
) -> None:
    api, worker = started(replicated.api(), replicated.worker())
    pages = (site.url(f"/slow/20/{n % 300}") for n in range(1_000_000))
    load = Load(replicated, api, pages, reading=True).start()
    worker.wait_for_event("metadata_persisted", count=50)
    come_back = fault(_primary(members))
    try:
        before = len(worker.events("metadata_persisted"))
        worker.wait_for_event("metadata_persisted", count=before + 50, deadline=60)
    finally:
        come_back()
    before = len(worker.events("metadata_persisted"))
    worker.wait_for_event("metadata_persisted", count=before + 50, deadline=60)
    load.stop()
    assert set(load.answers) <= {202, 503}
    assert_nothing_is_lost(replicated, site)
