"""The API that the benchmarks put over other frameworks."""

from collections.abc import Callable

import httpx
import pytest

from bench.noop import make_api

queued: list[str] = []


async def queue(url: str) -> None:
    queued.append(url)


@pytest.mark.parametrize("act", [queue, queued.append], ids=["coroutine function", "function"])
async def test_a_post_is_answered_when_its_url_is_queued(act: Callable[[str], object]) -> None:
    queued.clear()
    transport = httpx.ASGITransport(make_api(act))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answer = await client.post("/metadata", json={"url": "http://a.example/"})
    assert answer.status_code == 202
    assert answer.json() == {"status": "QUEUED", "url": "http://a.example/"}
    assert queued == ["http://a.example/"]
