"""What every test may ask for: the two servers, started once, and names of its own."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from dev.servers import MongoDB, RabbitMQ


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
