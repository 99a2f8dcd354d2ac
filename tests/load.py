"""Load in the background, and the invariant that every fault must leave standing."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import Any

import httpx

from dev.stack import Api
from tests.service import Service, eventually

NO_ANSWER = 0
ENDED = ("COMPLETED", "FAILED_PERMANENT")


class Load:
    """Posts each URL once, a few at a time, and keeps what was answered."""

    def __init__(
        self, service: Service, api: Api, urls: Iterable[str], *, callers: int = 4
    ) -> None:
        self.accepted: dict[str, str] = {}
        self.answers: list[int] = []
        self.slowest = 0.0
        self._service = service
        self._api = api
        self._urls = iter(urls)
        self._stop = Event()
        self._lock = Lock()
        self._threads = [Thread(target=self._post_all) for _ in range(callers)]

    def start(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def finish(self) -> dict[str, str]:
        """Return the request id of each URL that was accepted, once all were posted."""
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads)
        return self.accepted

    def stop(self) -> dict[str, str]:
        """Return what was accepted so far, and post no more."""
        self._stop.set()
        return self.finish()

    def _post_all(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                url = next(self._urls, None)
            if url is None:
                return
            self._post(url)

    def _post(self, url: str) -> None:
        started = time.monotonic()
        try:
            answer = self._service.post(self._api, url)
        except httpx.TransportError:
            self.answers.append(NO_ANSWER)
            return
        self.slowest = max(self.slowest, time.monotonic() - started)
        self.answers.append(answer.status_code)
        if answer.status_code == 202:
            self.accepted[url] = answer.json()["request_id"]


def assert_nothing_is_lost(
    service: Service, accepted: dict[str, str], *, dead: int = 0, within: float = 60
) -> None:
    """Check that every accepted request ended in one record, and that nothing is left over."""
    missing = set(accepted)
    eventually(lambda: _unfinished(service, missing), lambda left: not left, within=within)
    records = list(service.pages.find({}, {"url": True}))
    assert len(records) == len({record["url"] for record in records})
    names = set(service.queue_names()) - {"dead"}
    eventually(lambda: sum(service.queue(name).ready for name in names), lambda left: left == 0)
    eventually(service.unacknowledged, lambda count: count == 0)
    assert service.queue("dead").ready == dead


def _unfinished(service: Service, urls: set[str]) -> set[str]:
    ended = service.pages.find({"status": {"$in": ENDED}}, {"url": True})
    return urls - {record["url"] for record in ended}


@contextmanager
def supervised(start: Callable[[], Any]) -> Iterator[None]:
    """Start a process again whenever it has ended, as a supervisor would."""
    stop = Event()

    def supervise() -> None:
        while not stop.is_set():
            process = start()
            while not stop.is_set() and process.running:
                stop.wait(0.05)

    with ThreadPoolExecutor(1) as pool:
        supervising = pool.submit(supervise)
        try:
            yield
        finally:
            stop.set()
    supervising.result()
