"""APIs and workers whose clocks differ from one another and from the database's."""

import pytest

from tests.clocks import a_clock
from tests.load import Load, assert_nothing_is_lost
from tests.service import Service
from tests.site import Site


@pytest.mark.parametrize("skew", ["0.02", "0.5", "1d"])
def test_clocks_decide_nothing(service: Service, site: Site, skew: str) -> None:
    api_settings = {"BROKER_QUEUE_MAX_LENGTH": "10000"}
    apis = [service.api(**api_settings, **a_clock(sign + skew)) for sign in "+-"]
    workers = [service.worker(**api_settings, **a_clock(sign + skew)) for sign in "+-"]
    for process in (*apis, *workers):
        process.launch()
    for process in (*apis, *workers):
        process.wait_until_ready()
    # Pages that fail at once are where a record is written by both processes at the same moment.
    blocked = [f"http://10.0.0.1/{n}" for n in range(100)]
    urls = [
        url
        for n in range(100)
        for url in (blocked[n], site.url(f"/page/{n}"), site.url(f"/page/refreshed/{n % 5}"))
    ]
    loads = [Load(service, api, urls, reading=True).start() for api in apis]
    for load in loads:
        # A machine under load may refuse some requests. Of the others none may be lost.
        assert len(load.finish()) > len(set(urls)) / 2
    assert_nothing_is_lost(service, site, may_fail=blocked)
