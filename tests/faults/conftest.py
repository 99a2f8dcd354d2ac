"""In every fault somebody listens to the events, so that the checker can count them too."""

import pytest

from tests.service import Service


@pytest.fixture
def service(service: Service) -> Service:
    service.listen()
    return service


@pytest.fixture
def fragile(fragile: Service) -> Service:
    fragile.listen()
    return fragile
