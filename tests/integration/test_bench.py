"""The site that the benchmarks fetch from."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from dev.servers import LOOPBACK, Server
from dev.stack import ROOT


class BenchSite(Server):
    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bench.site", str(self.port)]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(ROOT)}

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/0/page", trust_env=False).is_success
        return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        BenchSite(tmp_path, name="site") as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        yield client


def test_the_site_serves_pages_at_once_and_later(site: httpx.Client) -> None:
    for path in ("/0/page", "/50/page"):
        page = site.get(path)
        assert (page.status_code, len(page.content)) == (200, 10_116)
    assert page.elapsed.total_seconds() >= 0.05
