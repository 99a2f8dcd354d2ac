"""Load in the background, and the promises that every fault must leave standing."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import Any

import httpx

from dev.stack import Api
from tests.checker import judged
from tests.history import NO_ANSWER
from tests.service import Service
from tests.site import Site


class Load:
    """Posts each URL once, a few at a time. The service's history has what was answered.

    With `reading`, each URL is also read once right after it was posted.
    """

    def __init__(
        self,
        service: Service,
        api: Api,
        urls: Iterable[str],
        *,
        callers: int = 4,
        reading: bool = False,
    ) -> None:
        self.accepted: set[str] = set()
        self.answers: list[int] = []
        self.slowest = 0.0
        self._service = service
        self._api = api
        self._urls = iter(urls)
        self._reading = reading
        self._stop = Event()
        self._lock = Lock()
        self._threads = [Thread(target=self._post_all) for _ in range(callers)]

    def start(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def finish(self) -> set[str]:
        """Return the URLs that were accepted, once all were posted."""
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads)
        return self.accepted

    def stop(self) -> set[str]:
        """Return the URLs that were accepted so far, and post no more."""
        self._stop.set()
        return self.finish()

    def _post_all(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                url = next(self._urls, None)
            if url is None:
                return
            self._post(url)
            if self._reading:
                self._read(url)

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
            self.accepted.add(url)

    def _read(self, url: str) -> None:
        try:
            self._service.get(self._api, url)
        except httpx.TransportError:
            return


def assert_nothing_is_lost(
    service: Service, site: Site, *, may_fail: Iterable[str] = (), within: float = 60
) -> None:
    """Have the checker judge everything that was asked of the service so far."""
    report = judged(service, site, may_fail=may_fail, within=within)
    assert report.is_clean, f"\n{report}"


@contextmanager
def supervised(*starts: Callable[[], Any]) -> Iterator[None]:
    """Start processes again whenever they have ended, as a supervisor would."""
    stop = Event()

    def supervise(start: Callable[[], Any]) -> None:
        while not stop.is_set():
            process = start()
            while not stop.is_set() and process.running:
                stop.wait(0.05)

    with ThreadPoolExecutor(len(starts)) as pool:
        supervising = [pool.submit(supervise, start) for start in starts]
        try:
            yield
        finally:
            stop.set()
    for each in supervising:
        each.result()
