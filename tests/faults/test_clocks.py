"""APIs and workers whose clocks differ from one another and from the database's."""

import pytest

from dev.servers import ServerMissing, find_faketime
from tests.load import Load, assert_nothing_is_lost
from tests.service import Service
from tests.site import Site


def a_clock(skew: str) -> dict[str, str]:
    """Return the environment of a process whose wall clock is ahead (`+`) or behind (`-`)."""
    library = find_faketime()
    if library is None:
        raise ServerMissing("faketime is not installed here; on Debian `apt-get install faketime`")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": skew,
        # Waits and timeouts are measured by the monotonic clock, which no skew changes.
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.parametrize("skew", ["0.02", "0.5", "1d"])
def test_clocks_decide_nothing(service: Service, site: Site, skew: str) -> None:
    api_settings = {"BROKER_QUEUE_MAX_LENGTH": "10000"}
    settings = {**api_settings, "WORKER_MAX_ATTEMPTS": "1"}
    apis = [service.api(**api_settings, **a_clock(sign + skew)) for sign in "+-"]
    workers = [service.worker(**settings, **a_clock(sign + skew)) for sign in "+-"]
    for process in (*apis, *workers):
        process.launch()
    for process in (*apis, *workers):
        process.wait_until_ready()
    # Pages that fail at once are where a record is written by both processes at the same moment.
    paths = [path for n in range(100) for path in (f"/status/503/{n}", f"/page/{n}", f"/{n % 5}")]
    loads = [Load(service, api, map(site.url, paths), reading=True).start() for api in apis]
    for load in loads:
        # A machine under load may refuse some requests. Of the others none may be lost.
        assert len(load.finish()) > len(set(paths)) / 2
    assert_nothing_is_lost(service, site)
