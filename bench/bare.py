"""The baseline of the worker: a loop that fetches the same pages by httpx and stores nothing.

`python -m bench.bare PORT PAGES CONCURRENCY` prints how many pages a second it fetched. Connections
are not kept alive, because httpx is faster without its pool.
"""

import asyncio
import sys
import time

import httpx
import uvloop


async def _pages_per_second(port: int, pages: int, concurrency: int) -> float:
    urls = iter([f"http://127.0.0.1:{port}/0/{number}" for number in range(pages)])
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, limits=limits) as client:

        async def fetch_all() -> None:
            for url in urls:
                (await client.get(url)).raise_for_status()

        started = time.perf_counter()
        await asyncio.gather(*(fetch_all() for _ in range(concurrency)))
        return pages / (time.perf_counter() - started)


if __name__ == "__main__":
    port, pages, concurrency = map(int, sys.argv[1:])
    print(uvloop.run(_pages_per_second(port, pages, concurrency)))  # noqa: T201 (the caller reads it)
