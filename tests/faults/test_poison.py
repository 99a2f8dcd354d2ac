"""Pages that kill the worker that fetches them, among pages that do not."""

import pytest

from tests.load import assert_nothing_is_lost, supervised
from tests.service import Service
from tests.site import Site

INNOCENT = 15


@pytest.mark.parametrize("poison_pages", [1, 3])
def test_pages_that_kill_their_worker_fail_alone(
    service: Service, site: Site, poison_pages: int
) -> None:
    settings = {"WORKER_MAX_ATTEMPTS": "2", "WORKER_CONCURRENCY": str(INNOCENT + poison_pages)}
    api, worker = service.api().start(), service.worker(**settings)
    site.on_poison = worker.kill
    # The poison pages come first, and the others are slow enough to be under way with them.
    poison = [site.url(f"/poison/{n}") for n in range(poison_pages)]
    innocent = [site.url(f"/slow/300/{n}") for n in range(INNOCENT)]
    for url in (*poison, *innocent):
        assert service.post(api, url).status_code == 202
    with supervised(worker.launch):
        assert_nothing_is_lost(service, site, within=150)
    records = {record["url"]: record for record in service.pages.find({})}
    assert {records[url]["status"] for url in innocent} == {"COMPLETED"}
    assert {records[url]["status"] for url in poison} == {"FAILED_PERMANENT"}
    kinds = {records[url]["processing"]["last_error"]["kind"] for url in poison}
    assert kinds == {"attempts_exhausted"}
