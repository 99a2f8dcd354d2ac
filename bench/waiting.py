"""Benchmark of callers that wait for pages by `Prefer: wait`: 1,000 of them, one API process."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import uvloop

from bench.cpu import group_seconds
from bench.http import a_stored_page
from bench.report import Reading
from bench.setup import Setup

WAITERS = 1000
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 5.0

RECORDS_A_SECOND = 200
"""About what one worker records."""


def waiting(setup: Setup) -> Iterator[Reading]:
    """Measure the time from record to answer, and the CPU of the API while nothing happens."""
    urls = [setup.page_url(f"{uuid4().hex}/{number}") for number in range(WAITERS)]
    setup.pages.insert_many([_queued(url) for url in urls])
    latencies, cpu = uvloop.run(_measure(setup, urls))
    p99 = sorted(latencies)[WAITERS * 99 // 100 - 1]
    yield Reading("1,000 waiters: p99 from record to answer", p99 * 1e3)
    yield Reading("1,000 waiters: CPU of the API", cpu * 100)


async def _measure(setup: Setup, urls: list[str]) -> tuple[list[float], float]:
    calls = [asyncio.create_task(_answered(setup.api.port, url)) for url in urls]
    await asyncio.sleep(SETTLE_SECONDS)
    before = group_seconds(setup.api.pid)
    await asyncio.sleep(IDLE_SECONDS)
    cpu = (group_seconds(setup.api.pid) - before) / IDLE_SECONDS
    recorded = await asyncio.to_thread(_record_all, setup, urls)
    answered = await asyncio.gather(*calls)
    return [end - begin for end, begin in zip(answered, recorded, strict=True)], cpu


async def _answered(port: int, url: str) -> float:
    """Wait for a page; return when it was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    target = f"/metadata?url={quote(url, safe='')}&fields=status_code"
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nPrefer: wait=60\r\n\r\n"
    writer.write(head.encode())
    status = await reader.readline()
    answered = time.perf_counter()
    writer.close()
    if not status.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"a waiter was answered {status!r}")
    return answered


def _record_all(setup: Setup, urls: list[str]) -> list[float]:
    """Record the pages as a worker does; return when each was begun to be written."""
    times = []
    begin = time.perf_counter()
    for number, url in enumerate(urls):
        time.sleep(max(0, begin + number / RECORDS_A_SECOND - time.perf_counter()))
        times.append(time.perf_counter())
        change = {"status": "COMPLETED", "metadata": a_stored_page(url)}
        setup.pages.update_one({"url": url}, {"$set": change, "$currentDate": {"updated_at": True}})
    return times


def _queued(url: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    processing = {"attempts": 0, "last_request_id": None, "last_error": None}
    times = {"created_at": now, "updated_at": now}
    return {"url": url, "status": "QUEUED", "metadata": None, "processing": processing} | times
