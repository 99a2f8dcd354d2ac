"""What the benchmarks are made of: the site that they fetch from, and their instruments."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bench.cpu import group_seconds
from bench.holds import LoopWatch
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


class BusyParent(BenchSite):
    """Is ready when a child process of its has used 0.3 seconds of CPU time and ended."""

    def _command(self) -> list[str]:
        child = "import time\nwhile time.process_time() < 0.3: pass"
        run = f"subprocess.run([sys.executable, '-c', {child!r}])"
        parent = f"import subprocess, sys, time; {run}; print('done', flush=True); time.sleep(60)"
        return [sys.executable, "-c", parent]

    def _is_ready(self) -> bool:
        return self.end_of_log() == "done"


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


def test_the_site_serves_pages_of_the_size_of_news_pages(site: httpx.Client) -> None:
    page = site.get("/0/news/page")
    assert len(page.content) == 270_000
    assert "ä" in page.text


def test_the_cpu_time_of_a_server_includes_that_of_its_child_processes(tmp_path: Path) -> None:
    with BusyParent(tmp_path, name="busy") as server:
        assert 0.3 <= group_seconds(server.pid) < 1.5


async def test_the_longest_hold_of_an_event_loop_is_found() -> None:
    watch = LoopWatch()
    watching = asyncio.create_task(watch.watch())
    await asyncio.sleep(0.01)
    time.sleep(0.05)  # noqa: ASYNC251 (it holds the loop on purpose)
    await asyncio.sleep(0.01)
    watching.cancel()
    assert 0.045 <= watch.longest_seconds < 0.5
