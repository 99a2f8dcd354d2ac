"""Each link of the API and the worker is delayed, cut and left half-open, under load."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.load import Load, assert_nothing_is_lost
from tests.proxy import Proxy, proxy_to
from tests.service import Service, eventually
from tests.site import Site

BROKER, DATABASE = "BROKER_URL", "DATABASE_URL"

# How long each fault lasts, while the load goes on: that it lasts is the fault.
DELAYED_SECONDS, AWAY_SECONDS = 3, 2


def _delay(proxy: Proxy) -> None:
    proxy.delay(0.2)
    time.sleep(DELAYED_SECONDS)


def _cut(proxy: Proxy) -> None:
    proxy.cut()
    time.sleep(AWAY_SECONDS)


def _half_open(proxy: Proxy) -> None:
    proxy.half_open()
    time.sleep(AWAY_SECONDS)


@pytest.fixture
def links(service: Service) -> Iterator[dict[str, Proxy]]:
    """A proxy before the broker and one before the database, to be put before one process."""
    ports = {BROKER: service.rabbitmq.port, DATABASE: service.mongodb.port}
    with ExitStack() as stack:
        yield {name: stack.enter_context(proxy_to(port)) for name, port in ports.items()}


def _through(proxy: Proxy, service: Service, setting: str) -> dict[str, str]:
    """Return the setting with which a process uses the proxy, with heartbeats every second."""
    server = {BROKER: service.rabbitmq, DATABASE: service.mongodb}[setting]
    url = server.url.replace(f":{server.port}", f":{proxy.port}")
    return {setting: f"{url}?heartbeat=2" if setting == BROKER else url}


@pytest.mark.parametrize("fault", [_delay, _cut, _half_open])
@pytest.mark.parametrize(
    "link", [("API", BROKER), ("API", DATABASE), ("worker", BROKER), ("worker", DATABASE)]
)
def test_a_bad_link_loses_nothing(
    service: Service,
    site: Site,
    links: dict[str, Proxy],
    link: tuple[str, str],
    fault: Callable[[Proxy], None],
) -> None:
    process, setting = link
    proxy, through_proxy = links[setting], _through(links[setting], service, setting)
    api = service.api(**(through_proxy if process == "API" else {})).start()
    worker = service.worker(**(through_proxy if process == "worker" else {})).start()
    pages = (site.url(f"/slow/20/{n % 50}/{n % 7}") for n in range(1_000_000))
    load = Load(service, api, pages, reading=True).start()
    worker.wait_for_event("metadata_persisted", count=20)
    fault(proxy)
    proxy.heal()
    before = len(worker.events("metadata_persisted"))
    eventually(lambda: service.is_ready(api) and service.is_ready(worker), bool, within=60)
    worker.wait_for_event("metadata_persisted", count=before + 20, deadline=60)
    load.stop()
    assert_nothing_is_lost(service, site, within=90)
