"""A deployment for each test, on the shared servers or on servers of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.servers import MongoDB, RabbitMQ
from tests.service import Service
from tests.site import Site, serving


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def service(
    tmp_path: Path, rabbitmq: RabbitMQ, mongodb: MongoDB, unique_name: str
) -> Iterator[Service]:
    service = Service(tmp_path, rabbitmq, mongodb, unique_name)
    try:
        yield service
    finally:
        service.close()
