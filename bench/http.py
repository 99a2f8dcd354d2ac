"""Benchmarks of the API under load, relative to an endpoint that does nothing."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import uvloop

from bench.compare.publishers import publish_requests
from bench.load import Result, get, load, post
from bench.report import Reading
from bench.setup import ON_PYMONGO, Setup
from dev.stack import Api, running

POST_ON_PYMONGO = "POST, DATABASE_DRIVER=pymongo"
GET_ON_PYMONGO = "GET of 20 KB, DATABASE_DRIVER=pymongo"

CONNECTIONS = 64
SECONDS = 5.0


def posting(setup: Setup) -> Iterator[Reading]:
    """Measure POST, which is confirmed by a quorum queue and recorded in MongoDB."""
    with setup.cpu_of(API=[setup.api]) as cpu:
        ours = post_pages(setup.api.port)
    yield Reading("POST", ours.per_second, _floor(setup), cpu.ms_each(ours.answered))
    calm = post_pages(setup.api.port, rate=ours.per_second / 2)
    yield Reading("POST p99 at half that load", calm.percentile(0.99) * 1e3, calm.median * 1e3)


def _floor(setup: Setup) -> float:
    """Return how many POST a second there would be if each cost a no-op and a bare publish."""
    noop = post_pages(setup.noop.port).per_second
    publish = publish_requests(setup.ground, sender="on_faststream").per_second
    return 1 / (1 / noop + 1 / publish)


def publishing(setup: Setup) -> Iterator[Reading]:
    """Measure `RequestPublisher` without HTTP and database."""
    sent = publish_requests(setup.ground, sender="on_ours")
    yield Reading("RequestPublisher alone", sent.per_second, cpu={"publisher": sent.cpu_ms})


def reading(setup: Setup) -> Iterator[Reading]:
    """Measure GET of a stored page: whole, some fields of it, and one that has not changed."""
    url = setup.page_url("read")
    store_page(setup, url)
    port, target = setup.api.port, f"/metadata?url={url}"
    noop = post_pages(setup.noop.port).per_second
    tag = httpx.get(f"{setup.api.url}{target}", headers={"Accept-Encoding": "identity"})
    known = f"If-None-Match: {tag.headers['etag']}"
    some_fields = get(port, f"{target}&fields=status_code,content_type,headers")
    yield _measured(setup, "GET of 20 KB", get(port, target), 200, noop)
    yield _measured(setup, "GET of three fields", some_fields, 200, noop)
    yield _measured(setup, "GET answered 304", get(port, target, known), 304, noop)


def other_driver(setup: Setup) -> Iterator[Reading]:
    """Measure POST and GET on pymongo's client, relative to the same on Motor."""
    url = setup.page_url("read")
    store_page(setup, url)
    target = f"/metadata?url={url}"
    with running(other := setup.another_api(**ON_PYMONGO)):
        on_motor = post_pages(setup.api.port).per_second
        with setup.cpu_of(API=[other]) as cpu:
            posted = post_pages(other.port)
        yield Reading(POST_ON_PYMONGO, posted.per_second, on_motor, cpu.ms_each(posted.answered))
        on_motor = _load(setup.api.port, get(setup.api.port, target), wanted=200).per_second
        yield _measured(setup, GET_ON_PYMONGO, get(other.port, target), 200, on_motor, api=other)


def _measured(  # noqa: PLR0913 (the caller names the API)
    setup: Setup,
    name: str,
    requests: Iterator[bytes],
    wanted: int,
    baseline: float,
    *,
    api: Api | None = None,
) -> Reading:
    api = api or setup.api
    with setup.cpu_of(API=[api]) as cpu:
        result = _load(api.port, requests, wanted=wanted)
    return Reading(name, result.per_second, baseline, cpu.ms_each(result.answered))


def post_pages(port: int, rate: float | None = None) -> Result:
    """Have 64 connections POST pages, each once."""
    prefix = uuid4().hex
    urls = (f"http://example.com/{prefix}/{number}" for number in itertools.count())
    bodies = (json.dumps({"url": url}).encode() for url in urls)
    return _load(port, post(port, bodies), wanted=202, rate=rate)


def _load(
    port: int, requests: Iterator[bytes], *, wanted: int, rate: float | None = None
) -> Result:
    result = uvloop.run(
        load(port, requests, wanted=wanted, connections=CONNECTIONS, seconds=SECONDS, rate=rate)
    )
    if result.failures:
        raise RuntimeError(f"{result.failures} requests were not answered {wanted}")
    return result


def a_stored_page(url: str) -> dict[str, Any]:
    """Return the metadata of a page of 20 KB as MongoDB has it."""
    return {
        "final_url": url,
        "status_code": 200,
        "http_version": "HTTP/1.1",
        "headers": [{"name": "content-type", "value": "text/html"}] * 12,
        "cookies": [],
        "page_source": "x" * 20_000,
        "page_source_truncated": False,
        "content_type": "text/html",
        "charset": "utf-8",
        "body_bytes": 20_000,
        "body_sha256": "0" * 64,
        "redirects": [],
        "remote_address": "127.0.0.1",
        "elapsed_ms": 1.0,
        "fetched_at": datetime.now(UTC),
    }


def store_page(setup: Setup, url: str) -> None:
    """Store a page of 20 KB under a URL."""
    now = datetime.now(UTC)
    processing = {
        "attempts": 1,
        "last_request_id": None,
        "last_error": None,
        "lease_expires_at": None,
    }
    record = {"status": "COMPLETED", "metadata": a_stored_page(url), "processing": processing}
    times = {"created_at": now, "updated_at": now}
    setup.pages.update_one({"url": url}, {"$set": record | times}, upsert=True)
