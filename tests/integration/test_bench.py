"""What the benchmarks stand on: pages that come, and figures that end up in the right column."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from xml.etree import ElementTree as ET

import httpx
import pytest

from bench.report import HEADINGS, Reading, Target, markdown_table, picture, rows_of
from dev.servers import free_port
from dev.stack import ROOT
from tests.service import eventually

FAST = Target("POST", "a second", "no-op endpoint", 0.4, at_least=True)
SMALL = Target("memory", "MiB", "", 250, at_least=False)


@pytest.fixture
def site() -> Iterator[httpx.Client]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.site", str(port)], cwd=ROOT)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        eventually(lambda: answers(client), bool)
        yield client
    process.kill()
    process.wait()


def answers(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/0/page").is_success
    return False


def test_the_site_serves_pages_at_once_and_later(site: httpx.Client) -> None:
    for path in ("/0/page", "/50/page"):
        page = site.get(path)
        assert (page.status_code, len(page.content)) == (200, 10_116)
    assert page.elapsed.total_seconds() >= 0.05


def test_a_row_is_the_median_of_its_rounds_held_against_its_target() -> None:
    readings = [Reading("POST", ours, 1000) for ours in (300, 500, 420)]
    readings += [Reading("memory", 300)]
    table = markdown_table(HEADINGS, (row.cells() for row in rows_of([FAST, SMALL], readings)))
    assert table.splitlines()[2:] == [
        "| POST | 420 a second | no-op endpoint: 1000 | 0.42 (0.3 to 0.5) | ≥ 0.4 | yes |",
        "| memory | 300 MiB |  | 300 (300 to 300) | ≤ 250 | **no** |",
    ]


def test_a_bar_is_as_long_as_the_share_of_the_target_that_is_reached() -> None:
    rows = rows_of([FAST, SMALL], [Reading("POST", 200, 1000), Reading("memory", 250)])
    svg = ET.fromstring(picture(rows))  # noqa: S314 (our own)
    bars = [rect for rect in svg.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x")]
    assert [bar.get("width") for bar in bars] == ["130", "260"]
    assert bars[0].get("fill") != bars[1].get("fill")
