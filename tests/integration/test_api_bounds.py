"""What clients can do to the API process, whatever they send and however they read.

The bounds are those of the process that `python -m app.api` starts: memory, time, and the size of
what it reads. Each test stays on the loopback interface and ends its own connections.
"""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dev.stack import Api
from tests.service import Service, eventually

MEMORY_MIB = 400
READ_SECONDS = 30
STOP_SECONDS = 35

SMALL_PAGE_SECONDS = 2
"""How long a small page may take beside large ones. The bound is a second for a machine that has
nothing else to do; other tests share this one."""

LARGE_PAGES = 8
SMALL = "http://example.com/small"

HALF_A_POST = (
    b"POST /metadata HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
    b"Content-Length: 10000\r\n\r\n{"
)


# --- What is stored, and who asks for it ---


def large(number: int) -> str:
    return f"http://example.com/large/{number}"


def store_page(service: Service, url: str, page_source: str) -> None:
    """Store a page without a worker, which would need a site that sends it."""
    now = datetime.now(UTC)
    metadata = {
        "final_url": url,
        "status_code": 200,
        "http_version": "HTTP/1.1",
        "headers": [{"name": "content-type", "value": "text/html"}],
        "cookies": [],
        "page_source": page_source,
        "page_source_truncated": False,
        "content_type": "text/html",
        "charset": "windows-1252",
        "body_bytes": len(page_source),
        "body_sha256": "0" * 64,
        "redirects": [],
        "remote_address": "127.0.0.1",
        "elapsed_ms": 1.0,
        "fetched_at": now,
    }
    processing = {"attempts": 1, "last_request_id": None, "last_error": None}
    record: dict[str, Any] = {
        "url": url,
        "status": "COMPLETED",
        "metadata": metadata,
        "processing": {**processing, "lease_expires_at": None},
        "created_at": now,
        "updated_at": now,
    }
    service.pages.insert_one(record)


@pytest.fixture
def api(shared_service: Service) -> Iterator[Api]:
    """An API whose memory, connections and end are those of one test."""
    api = shared_service.api().start()
    yield api
    api.stop()


@pytest.fixture(scope="module")
def lasting_api(shared_service: Service) -> Api:
    """An API for tests that look only at their own connections."""
    return shared_service.api().start()


@pytest.fixture(scope="module")
def pages(shared_service: Service) -> None:
    """Store a small page, and several of the largest there can be, for all tests to read."""
    # 5 MB of the byte 0x80 in windows-1252: each is three bytes in MongoDB and in the answer.
    for number in range(LARGE_PAGES):
        store_page(shared_service, large(number), "€" * 5_000_000)
    store_page(shared_service, SMALL, "x" * 20_000)


@pytest.fixture
def stocked(pages: None, api: Api) -> Api:
    """The API, with these pages in its database."""
    del pages
    return api


def target(url: str) -> str:
    return f"/metadata?url={quote(url, safe='')}"


def peak_mib(api: Api) -> float:
    """Return the most memory that the process has had so far (resident set size)."""
    status = Path(f"/proc/{api.pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak) / 1024


def connections(api: Api) -> int:
    """Return how many connections the process has, established or being closed by it."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[1].endswith(f":{api.port:04X}") and row[3] != "0A"}
    sockets = set()
    for link in Path(f"/proc/{api.pid}/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            sockets.add(str(link.readlink()))
    return len({f"socket:[{inode}]" for inode in inodes} & sockets)


@contextmanager
def sending(api: Api, *requests: bytes) -> Iterator[list[socket.socket]]:
    """Send each on a connection of its own, and read nothing."""
    with ExitStack() as stack:
        clients = []
        for request in requests:
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", api.port))
            client.sendall(request)
            clients.append(client)
        yield clients


def get(url: str) -> bytes:
    return f"GET {target(url)} HTTP/1.1\r\nHost: api\r\n\r\n".encode()


async def small_reads(api: Api, until: "asyncio.Future[Any]") -> list[float]:
    """Read the small page again and again; return how many seconds each reading took."""
    waits = []
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        while not until.done():
            began = time.perf_counter()
            answer = await client.get(f"{api.url}{target(SMALL)}")
            waits.append(time.perf_counter() - began)
            assert answer.status_code == 200
            await asyncio.sleep(0.02)
    return waits


def nearly_all(waits: list[float]) -> float:
    """Return what nine of ten waits stay below: readers, API and servers share two cores here."""
    return sorted(waits)[len(waits) * 9 // 10]


# --- Memory ---


async def read_all(api: Api, readers: int, coding: str) -> list[tuple[int, int, bool]]:
    """Read the largest pages side by side; return status, size, and whether to try again."""
    headers = {"Accept-Encoding": coding}

    async def read(client: httpx.AsyncClient, number: int) -> tuple[int, int, bool]:
        url = f"{api.url}{target(large(number % LARGE_PAGES))}"
        async with client.stream("GET", url, headers=headers) as answer:
            size = sum([len(chunk) async for chunk in answer.aiter_bytes()])
            return answer.status_code, size, "retry-after" in answer.headers

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
        return await asyncio.gather(*(read(client, number) for number in range(readers)))


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_64_readers_of_the_largest_pages_at_once(stocked: Api, coding: str) -> None:
    # The 64 readers have a thread of their own, so as not to hold up the reader that is timed.
    reading = asyncio.ensure_future(asyncio.to_thread(asyncio.run, read_all(stocked, 64, coding)))
    waits = await small_reads(stocked, reading)
    answers = await reading
    served = [size for status, size, _ in answers if status == 200]
    refused = [may_try_again for status, _, may_try_again in answers if status == 503]
    assert len(served) + len(refused) == 64
    assert served  # how many get their turn in time is a matter of the machine's speed
    assert min(served) > 15_000_000
    assert all(refused)
    assert peak_mib(stocked) < MEMORY_MIB
    assert nearly_all(waits) < SMALL_PAGE_SECONDS


BATCH_BYTES = 4 * 1024 * 1024


def batch(body: bytes) -> bytes:
    head = f"POST /metadata/batch HTTP/1.1\r\nHost: api\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


def filled(beginning: bytes, item: bytes, end: bytes) -> bytes:
    """Return JSON with so many items that a batch may just have it."""
    items = b",".join([item] * ((BATCH_BYTES - len(beginning) - len(end)) // (len(item) + 1)))
    return beginning + items + end


async def test_batches_that_are_made_to_take_memory(stocked: Api) -> None:
    more = [b"[]", b"[[[[]]]]", b'{"":0}', b'[""]']
    bodies = [filled(b'{"urls":["ftp://a/"],"x":[', item, b"]}") for item in more]
    bodies += [filled(b'{"urls":[', item, b"]}") for item in (*more, b'""')]
    headers = {"Content-Type": "application/json"}
    url = f"{stocked.url}/metadata/batch"
    async with httpx.AsyncClient(trust_env=False, timeout=60, headers=headers) as client:
        answers = await asyncio.gather(*(client.post(url, content=body) for body in bodies))
    assert [it.status_code for it in answers] == 4 * [207] + 5 * [400]
    assert peak_mib(stocked) < MEMORY_MIB


async def test_100_clients_that_do_not_read_the_answers_to_their_batches(stocked: Api) -> None:
    waiting = asyncio.ensure_future(asyncio.sleep(8))
    body = filled(b'{"urls":[', b'"ftp://a/%b"' % (b"x" * 2000), b"]}")[:2_000_000] + b'x"]}'
    with sending(stocked, *([batch(body)] * 100)):
        assert nearly_all(await small_reads(stocked, waiting)) < SMALL_PAGE_SECONDS
        assert peak_mib(stocked) < MEMORY_MIB


async def test_40_clients_that_do_not_read_the_largest_pages(stocked: Api) -> None:
    waiting = asyncio.ensure_future(asyncio.sleep(8))
    with sending(stocked, *(get(large(number % LARGE_PAGES)) for number in range(40))):
        assert nearly_all(await small_reads(stocked, waiting)) < SMALL_PAGE_SECONDS
        assert peak_mib(stocked) < MEMORY_MIB


def test_heads_without_end_are_refused_and_cost_no_memory(api: Api) -> None:
    before = peak_mib(api)
    line = b"X-Filler: " + b"x" * 4000 + b"\r\n"
    for _ in range(20):
        with sending(api, b"GET / HTTP/1.1\r\nHost: api\r\n") as (client,):
            client.settimeout(10)
            with suppress(ConnectionError):
                for _ in range(2500):  # 10 MB
                    client.sendall(line)
            with suppress(ConnectionError):
                answer = client.recv(65536)
                assert not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert connections(api) == 0
    assert peak_mib(api) < before + 30


# --- The size of a head ---


@pytest.mark.parametrize("form", ["one line", "many lines", "a long target"])
def test_a_head_may_have_64_kib(lasting_api: Api, form: str) -> None:
    for size, accepted in ((60 * 1024, True), (65 * 1024, False)):
        with sending(lasting_api, a_head(form, size)) as (client,):
            client.settimeout(10)
            answer = client.recv(1000)
        status = int(answer.split(b" ")[1]) if answer else None
        assert status == 200 if accepted else status in (None, 431)


def a_head(form: str, size: int) -> bytes:
    query, headers = b"", b""
    if form == "one line":
        headers = b"X-Filler: " + b"x" * size + b"\r\n"
    elif form == "many lines":
        headers = b"".join(b"X-Filler-%d: %s\r\n" % (n, b"x" * 900) for n in range(size // 920))
    else:
        query = b"?" + b"x" * size
    return b"GET /health/live" + query + b" HTTP/1.1\r\nHost: api\r\n" + headers + b"\r\n"


# --- Time ---


@pytest.mark.usefixtures("pages")
def test_clients_that_do_not_finish_or_do_not_read_are_dropped(lasting_api: Api) -> None:
    requests = [
        *[HALF_A_POST] * 300,
        *[b""] * 5,
        *[b"GET /health/live HTTP/1.1\r\nHost: a"] * 5,
        *[get(large(0))] * 5,
        *[get(SMALL) * 20] * 5,
        *(slow := {HALF_A_POST: b" ", b"GET / HTTP/1.1\r\n": b"X: y\r\n"}),
    ]
    with sending(lasting_api, *requests) as clients:

        def send_slowly() -> int:
            for client, more in zip(clients[-len(slow) :], slow.values(), strict=True):
                with suppress(ConnectionError):
                    client.sendall(more)
            time.sleep(0.25)  # counting hundreds of connections takes CPU time
            return connections(lasting_api)

        began = time.monotonic()
        eventually(lambda: connections(lasting_api), lambda count: count == len(requests))
        eventually(send_slowly, lambda count: count == 0, within=READ_SECONDS + 15)
        assert time.monotonic() - began > READ_SECONDS - 5


def test_the_api_stops_in_time_whatever_clients_do(stocked: Api) -> None:
    requests = [*[HALF_A_POST] * 10, b"", b"GET / HTTP/1.1\r\nHost: a", *[get(large(0))] * 5]
    with sending(stocked, *requests):
        eventually(lambda: connections(stocked), lambda count: count == len(requests))
        began = time.monotonic()
        assert stocked.terminate(deadline=STOP_SECONDS * 2) == 0
        assert time.monotonic() - began < STOP_SECONDS
