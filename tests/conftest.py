"""What every test may ask for: the two servers, started once, and names of its own."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from dev.servers import MongoDB, RabbitMQ
from dev.stack import running
from tests.service import Service
from tests.site import Site, serving


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def rabbitmq(servers_folder: Path) -> Iterator[RabbitMQ]:
    with RabbitMQ(servers_folder / "rabbitmq", name="shared") as server:
        yield server


@pytest.fixture(scope="session")
def mongodb(servers_folder: Path) -> Iterator[MongoDB]:
    with MongoDB(servers_folder / "mongodb") as server:
        yield server


@pytest.fixture
def unique_name() -> str:
    """A name for queues and databases that no other test uses."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def service(
    tmp_path: Path, rabbitmq: RabbitMQ, mongodb: MongoDB, unique_name: str
) -> Iterator[Service]:
    """A deployment on the shared servers."""
    with closing(Service(tmp_path, rabbitmq, mongodb, unique_name)) as service:
        yield service


@pytest.fixture
def fragile(tmp_path: Path, unique_name: str) -> Iterator[Service]:
    """A deployment on servers of its own, which the test may stop, kill and pause."""
    rabbitmq = RabbitMQ(tmp_path / "rabbitmq", name=unique_name)
    mongodb = MongoDB(tmp_path / "mongodb")
    with (
        running(rabbitmq, mongodb),
        closing(Service(tmp_path, rabbitmq, mongodb, unique_name)) as service,
    ):
        yield service
