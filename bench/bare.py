"""The baseline of the worker: a loop that fetches the same pages by httpx and stores nothing.

`python -m bench.bare PORT PAGES CONCURRENCY` prints how many pages a second it fetched, and the CPU
time of a page. Connections are not kept alive, because httpx is faster without its pool.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict

import httpx
import uvloop

from bench.cpu import Rate
from dev.stack import ROOT


def measure(port: int, *, pages: int, concurrency: int) -> Rate:
    """Run the loop in a process of its own."""
    command = [sys.executable, "-m", "bench.bare", *map(str, (port, pages, concurrency))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return Rate(**json.loads(done.stdout))


async def _fetch_pages(port: int, pages: int, concurrency: int) -> Rate:
    urls = iter([f"http://127.0.0.1:{port}/0/{number}" for number in range(pages)])
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, limits=limits) as client:

        async def fetch_all() -> None:
            for url in urls:
                (await client.get(url)).raise_for_status()

        started, cpu_before = time.perf_counter(), time.process_time()
        await asyncio.gather(*(fetch_all() for _ in range(concurrency)))
        cpu_seconds = time.process_time() - cpu_before
        return Rate(pages / (time.perf_counter() - started), cpu_seconds * 1000 / pages)


if __name__ == "__main__":
    port, pages, concurrency = map(int, sys.argv[1:])
    rate = uvloop.run(_fetch_pages(port, pages, concurrency))
    print(json.dumps(asdict(rate)))  # noqa: T201 (`measure()` reads it)
