"""Fetches a page by httpx and stores it by pymongo, as a task of any framework would.

The record has what every such service would keep: URL, status, headers, cookies, page source and
times. The URL is unique, and a write is acknowledged by a majority of members from their journals.
A redelivered message replaces the record by an equal one. Connections to sites are not kept alive,
because httpx is faster without its pool.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from http.cookiejar import Cookie
from threading import Lock
from typing import Any

import httpx
import pymongo

from bench.compare.arena import COMPLETED

Record = dict[str, Any]

DURABLE: dict[str, Any] = {"w": "majority", "journal": True}

_FETCHING: dict[str, Any] = {
    "follow_redirects": True,
    "limits": httpx.Limits(max_keepalive_connections=0),
    "timeout": 20.0,  # seconds, of each wait
    "trust_env": False,
}
_one_at_a_time = Lock()


def collect(url: str) -> None:
    """Fetch a page and store it, by the clients that this process shares."""
    with _one_at_a_time:
        http, pages = _clients()
    started = datetime.now(UTC)
    record = record_of(url, http.get(url), started)
    pages.replace_one({"url": url}, record, upsert=True)


class Storage:
    """Stores records. Belongs to the event loop in which it is created."""

    def __init__(self) -> None:
        self._client: pymongo.AsyncMongoClient[Record] = pymongo.AsyncMongoClient(
            os.environ["DATABASE_URL"], **DURABLE
        )
        self._pages = self._client[os.environ["DATABASE_NAME"]].pages

    async def store(self, record: Record) -> None:
        """Insert the record, or replace the one that the URL has."""
        await self._pages.replace_one({"url": record["url"]}, record, upsert=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class AsyncCollector:
    """Fetches and stores pages. Belongs to the event loop in which it is created."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(**_FETCHING)
        self._storage = Storage()

    async def collect(self, url: str) -> None:
        """Fetch a page and store it."""
        started = datetime.now(UTC)
        await self._storage.store(record_of(url, await self._http.get(url), started))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._storage.close()


@cache
def _clients() -> tuple[httpx.Client, Any]:
    mongodb: pymongo.MongoClient[Record] = pymongo.MongoClient(
        os.environ["DATABASE_URL"], **DURABLE
    )
    return httpx.Client(**_FETCHING), mongodb[os.environ["DATABASE_NAME"]].pages


def record_of(url: str, response: httpx.Response, started: datetime) -> Record:
    """Return the record of a page whose fetch began at `started`."""
    return make_record(
        url,
        final_url=str(response.url),
        status_code=response.status_code,
        headers=response.headers.multi_items(),
        cookies=response.cookies.jar,
        page_source=response.text,
        started=started,
    )


def make_record(  # noqa: PLR0913 (each is a field of the record)
    url: str,
    *,
    final_url: str,
    status_code: int,
    headers: Iterable[tuple[str, str]],
    cookies: Iterable[Cookie],
    page_source: str,
    started: datetime,
) -> Record:
    """Return a record of these parts, with the current time as its end."""
    now = datetime.now(UTC)
    return {
        "url": url,
        "status": COMPLETED,
        "metadata": {
            "final_url": final_url,
            "status_code": status_code,
            "headers": [{"name": name, "value": value} for name, value in headers],
            "cookies": [_cookie(cookie) for cookie in cookies],
            "page_source": page_source,
            "elapsed_ms": (now - started).total_seconds() * 1000,
            "fetched_at": now,
        },
        "created_at": started,
        "updated_at": now,
    }


def _cookie(cookie: Cookie) -> dict[str, Any]:
    return {
        "name": cookie.name,
        "value": cookie.value,
        "domain": cookie.domain,
        "path": cookie.path,
        "expires": cookie.expires,
        "secure": cookie.secure,
    }
