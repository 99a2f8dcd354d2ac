"""A worker is killed at each step between a claim and its acknowledgement."""

import sys

import pytest

from dev.servers import LOOPBACK
from dev.stack import Worker
from tests.crashing import STEPS
from tests.load import assert_nothing_is_lost, supervised
from tests.service import Service
from tests.site import Site

KILLS = 2


class CrashingWorker(Worker):
    """A worker that kills itself the first times that it gets to a step; see `crashing.py`."""

    step = ""

    def _command(self) -> list[str]:
        crashing = ("-m", "tests.crashing", self.step, str(KILLS), str(self.folder / "kills"))
        address = ("--host", LOOPBACK, "--port", str(self.port))
        return [sys.executable, *crashing, "run", "app.worker.main:app", *address]


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_a_step_loses_nothing(service: Service, site: Site, step: str) -> None:
    api = service.api().start()
    worker = CrashingWorker(service.folder, environment=service.environment)
    worker.step = step
    service.processes.append(worker)
    pages = [f"/page/{n}" for n in range(10)] + [f"/flaky/3/{n}" for n in range(5)]
    for path in pages:
        assert service.post(api, site.url(path)).status_code == 202
    with supervised(worker.launch):
        service.ended(api, site.url("/page/0"), within=60)
        assert service.post(api, site.url("/page/0")).status_code == 202
        assert_nothing_is_lost(service, site)
    assert (service.folder / "kills").read_bytes() == b"x" * KILLS
