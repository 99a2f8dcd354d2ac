"""The service as its users meet it: processes, HTTP, queues and records."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import aio_pika
import httpx
import pymongo
from pymongo.collection import Collection

from app.assembly import topology_of
from app.runtime.settings import Settings
from dev.servers import MongoDB, RabbitMQ
from dev.stack import Api, Worker
from tests.history import NO_ANSWER, History
from tests.listener import Listener
from tests.plain_http import NO_CERTIFICATES

T = TypeVar("T")

QUICK = {
    "WORKER_RETRY_DELAYS_SECONDS": "1",
    "BROKER_INITIAL_BACKOFF_SECONDS": "0.2",
    "BROKER_MAX_BACKOFF_SECONDS": "1",
    "BROKER_PUBLISH_TIMEOUT_SECONDS": "5",
    "DATABASE_TIMEOUT_SECONDS": "2",
    "DATABASE_INITIAL_BACKOFF_SECONDS": "0.2",
    "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
}
"""Settings that keep waits short. A test that is about one of them sets it to another value."""


def eventually(read: Callable[[], T], wanted: Callable[[T], bool], *, within: float = 20.0) -> T:
    """Read again and again until `wanted` accepts the value; fail with the last value if late.

    What takes longer is read more seldom, because each reading takes CPU time of others too.
    """
    give_up, pause = time.monotonic() + within, 0.05
    while not wanted(value := read()):
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {within} s; last: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.2)
    return value


def started(api: Api, worker: Worker) -> tuple[Api, Worker]:
    """Start both side by side."""
    for process in (api.launch(), worker.launch()):
        process.wait_until_ready()
    return api, worker


class Service:
    """One deployment with queues and a database of its own, on the servers it is given."""

    all_open: ClassVar[list["Service"]] = []
    """Every deployment of this process that is not closed: `failure_report` describes them."""

    def __init__(self, folder: Path, rabbitmq: RabbitMQ, mongodb: MongoDB, name: str) -> None:
        self.rabbitmq = rabbitmq
        self.mongodb = mongodb
        self.name = name
        self.folder = folder
        self.processes: list[Api | Worker] = []
        self.history = History()
        # uvicorn closes idle connections after 5 s. Ours end earlier, so that no request is sent
        # on a connection that is just being closed.
        limits = httpx.Limits(keepalive_expiry=2)
        self._client = httpx.Client(
            timeout=60, trust_env=False, verify=NO_CERTIFICATES, limits=limits
        )
        self._mongo: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            mongodb.url, uuidRepresentation="standard"
        )
        self.environment = {
            **QUICK,
            "BROKER_URL": rabbitmq.url,
            "BROKER_QUEUE_NAME": f"{name}.requests",
            "DATABASE_URL": mongodb.url,
            "DATABASE_NAME": name,
        }
        self._queues = [queue.name for queue in topology_of(self.settings)]
        self.listener: Listener | None = None
        self.all_open.append(self)

    def listen(self, *, quorum: bool = False) -> None:
        """Listen to all events from now on; `judged()` then compares them with the outcomes."""
        exchange = topology_of(self.settings).events.name
        url = self.environment["BROKER_URL"]
        self.listener = Listener(url, exchange, self.pages, quorum=quorum).open()

    @property
    def settings(self) -> Settings:
        """The settings with which an application in the test's own process joins the service."""
        values: dict[str, Any] = {name.lower(): text for name, text in self.environment.items()}
        return Settings(_env_file=None, **values)

    @property
    def pages(self) -> Collection[dict[str, Any]]:
        return self._mongo[self.name].pages

    def api(self, **settings: str) -> Api:
        """Return an API that is not started yet."""
        number = len(self.processes)
        environment = {**self.environment, **settings}
        api = Api(self.folder, name=f"api-{number}", environment=environment)
        self.processes.append(api)
        return api

    def worker(self, **settings: str) -> Worker:
        """Return a worker that is not started yet."""
        number = len(self.processes)
        environment = {**self.environment, **settings}
        worker = Worker(self.folder, name=f"worker-{number}", environment=environment)
        self.processes.append(worker)
        return worker

    def close(self) -> None:
        self.all_open.remove(self)
        for process in reversed(self.processes):
            process.stop()
        if self.listener is not None:
            self.listener.close()
        self._client.close()
        self._mongo.close()

    def delete_queues(self) -> None:
        """Delete the queues that its processes have declared, on a broker that others go on using.

        Two hundred quorum queues that nobody uses cost a tenth of a core.
        """
        if self.processes:
            asyncio.run(_delete(self.rabbitmq.url, self._queues))

    def post(self, api: Api, url: str, **more: Any) -> httpx.Response:
        """Ask for a page, and note in the history what was answered."""
        sent, status, request_id = time.monotonic(), NO_ANSWER, None
        try:
            answer = self._client.post(f"{api.url}/metadata", json={"url": url, **more})
            status = answer.status_code
            request_id = answer.json()["request_id"] if status == HTTPStatus.ACCEPTED else None
        finally:
            self.history.note_post(url, sent, status, request_id)
        return answer

    def post_batch(self, api: Api, urls: Sequence[str], **more: Any) -> list[dict[str, Any]]:
        """Ask for many pages in one call, and note in the history what was answered for each."""
        sent = time.monotonic()
        items: list[dict[str, Any]] = [{}] * len(urls)
        try:
            answer = self._client.post(f"{api.url}/metadata/batch", json={"urls": urls, **more})
            if answer.status_code == HTTPStatus.MULTI_STATUS:
                items = answer.json()["items"]
        finally:
            for url, item in zip(urls, items, strict=True):
                self.history.note_post(url, sent, _status_of(item), item.get("request_id"))
        return items

    def listed(self, api: Api, **query: Any) -> list[dict[str, Any]]:
        """Return all pages of a list, which is read a few at a time."""
        items: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            answer = self._client.get(
                f"{api.url}/metadata/pages", params={**query, "cursor": cursor}
            )
            assert answer.status_code == HTTPStatus.OK, answer.text
            items += answer.json()["items"]
            cursor = answer.json()["next"]
        return items

    def get(self, api: Api, url: str, **more: Any) -> httpx.Response:
        """Read a page, and note in the history what was answered."""
        sent, status, hit = time.monotonic(), NO_ANSWER, None
        try:
            answer = self._client.get(f"{api.url}/metadata", params={"url": url, **more})
            status, hit = answer.status_code, _hit_in(answer)
        finally:
            self.history.note_get(url, sent, status, hit)
        return answer

    def delete(self, api: Api, url: str) -> httpx.Response:
        """Delete a page."""
        return self._client.delete(f"{api.url}/metadata", params={"url": url})

    def request_state(self, api: Api, request_id: str) -> dict[str, Any]:
        """Return what the API says became of a request."""
        answer = self._client.get(f"{api.url}/metadata/requests/{request_id}")
        body: dict[str, Any] = answer.json()
        return body

    def is_ready(self, process: Api | Worker) -> bool:
        return self._client.get(f"{process.url}/health/ready").status_code == 200

    def wait_until_unready(self) -> None:
        """Return once every running process reports that it is not ready."""
        running = [process for process in self.processes if process.running]
        eventually(
            lambda: [process for process in running if self.is_ready(process)],
            lambda ready: not ready,
            within=60,
        )

    def ended(self, api: Api, url: str, *, within: float = 20.0) -> dict[str, Any]:
        """Return the page as the API shows it, once its request has ended."""
        answer = eventually(
            lambda: self.get(api, url), lambda a: a.status_code == 200, within=within
        )
        body: dict[str, Any] = answer.json()
        return body

    def queue(self, name: str) -> "QueueCounts":
        """Ask the broker for the counts of a queue, named without the prefix."""
        return asyncio.run(_counts(self.rabbitmq.url, f"{self.name}.{name}"))

    def wait_until_queues_are_on_disk(self) -> None:
        """Return once every queue would survive a kill of the broker.

        RabbitMQ writes the names of its quorum queues to a file, about a second after their
        declaration. A queue whose broker is killed before that has no leader afterwards.
        """
        node = self.rabbitmq.node
        names = self.rabbitmq.folder / "data" / node / "quorum" / node / "names.dets"
        queues = [queue.name.encode() for queue in topology_of(self.settings)]
        eventually(names.read_bytes, lambda written: all(queue in written for queue in queues))

    def queue_names(self) -> list[str]:
        """Return the names of the queues that exist, without the prefix."""
        names = self.rabbitmq.ctl("--quiet", "list_queues", "--no-table-headers", "name").split()
        prefix = f"{self.name}."
        return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]

    def unacknowledged(self) -> int:
        """Return how many deliveries are neither acknowledged nor rejected.

        The broker refreshes this figure now and then only, so poll it.
        """
        columns = ("name", "messages_unacknowledged")
        table = self.rabbitmq.ctl("--quiet", "list_queues", "--no-table-headers", *columns)
        rows = (line.split("\t") for line in table.splitlines())
        return sum(int(count) for name, count in rows if name.startswith(f"{self.name}."))


def _status_of(item: dict[str, Any]) -> int:
    """Return what `POST /metadata` would have answered in place of an item of a batch."""
    if "problem" in item:
        return int(item["problem"]["status"])
    return HTTPStatus.ACCEPTED if item else NO_ANSWER


def _hit_in(answer: httpx.Response) -> int | None:
    """Return the number of the site hit that the answered content came from."""
    if answer.status_code != HTTPStatus.OK or answer.json()["status"] != "COMPLETED":
        return None
    headers = answer.json()["metadata"]["headers"]
    hits = [int(header["value"]) for header in headers if header["name"] == "x-hit"]
    return hits[0] if hits else None


class QueueCounts(NamedTuple):
    ready: int
    consumers: int


async def _counts(url: str, queue: str) -> QueueCounts:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        result = (await channel.declare_queue(queue, passive=True)).declaration_result
    return QueueCounts(result.message_count or 0, result.consumer_count or 0)


async def _delete(url: str, queues: Iterable[str]) -> None:
    async with await aio_pika.connect(url, timeout=30) as connection:
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_delete(queue)
