"""Fetch sixteen large pages at once and print the peak of this process's memory, in MB.

Run as a program, with the URL as its argument: the peak is that of the whole process.
"""

import asyncio
import sys
from ipaddress import ip_network
from pathlib import Path

from app.fetcher.client import HttpFetcher
from app.runtime.process import give_memory_back

SLOTS = 16


async def fetch(url: str) -> None:
    fetcher = HttpFetcher(
        connect_timeout_seconds=5,
        total_timeout_seconds=60,
        max_body_bytes=5_000_000,
        max_redirects=5,
        user_agent="page-metadata/1.0",
        allowed_ports=frozenset(),
        allowed_networks=(ip_network("127.0.0.0/8"),),
        per_host_concurrency=0,
        respect_robots=False,
    )
    pages = await asyncio.gather(*(fetcher.fetch(url) for _ in range(SLOTS)))
    assert {page.body_bytes for page in pages} == {5_000_000}
    await fetcher.aclose()


def peak_mb() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) // 1024


if __name__ == "__main__":
    give_memory_back()
    asyncio.run(fetch(sys.argv[1]))
    print(peak_mb())  # noqa: T201 - the answer to the test
