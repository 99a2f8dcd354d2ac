"""A small site whose pages a test can hold back, fail and count."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Event, Lock, Thread

from tests.history import NO_ANSWER, History, Hit


class Site(ThreadingHTTPServer):
    """Pages under `/`, some of which are special.

    `/held/…` waits for `release()`, `/slow/200/…` takes 200 ms, `/status/503/…` answers 503,
    `/failing/…` does so for as long as `failing` is set, `/flaky/2/…` does so for its first two
    hits, `/poison/…` calls `on_poison` and closes the connection, `/big/1000` has 1000 bytes, also
    after another of these, `/nul` a NUL. `/tagged/…` has an ETag that is made of `edition`, and
    answers 304 to whoever has it, `/moved/tagged/…` redirects there.

    Each answer has the number of its hit in the header `X-Hit`; `seen` tells when that hit began.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), _Page)
        self._address = address
        self.hits: Counter[str] = Counter()
        self.seen: list[Hit] = []
        self.failing = False
        self.edition = 1
        self.on_hit: Callable[[str], None] = lambda _path: None
        self.on_poison: Callable[[], object] = lambda: None
        self._numbers = count(1)
        self._lock = Lock()
        self._gate = Event()

    def url(self, path: str) -> str:
        return f"http://{self._address}:{self.server_port}{path}"

    def release(self) -> None:
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    def wait(self) -> None:
        self._gate.wait(60)

    def pause(self, seconds: float) -> None:
        Event().wait(seconds)

    @property
    def etag(self) -> str:
        return f'W/"edition-{self.edition}"'

    def note_hit(self, path: str, if_none_match: str | None = None) -> Hit:
        """Count a hit, and decide at once what it is answered."""
        began = time.monotonic()
        with self._lock:
            self.hits[path] += 1
            status = self._status(path)
            if path.startswith("/tagged/") and if_none_match == self.etag:
                status = 304
            hit = Hit(next(self._numbers), self.url(path), began, status, if_none_match)
            self.seen.append(hit)
        return hit

    def failing_among(self, history: History) -> frozenset[str]:
        """Return the URLs in a history that the site does not answer with 200, if asked now."""
        urls = {post.url for post in history.posts} | {get.url for get in history.gets}
        return frozenset(url for url in urls if self._fails(url.removeprefix(self.url(""))))

    def _fails(self, path: str) -> bool:
        return self._kind(path)[0] != "flaky" and self._status(path) != 200

    def _status(self, path: str) -> int:
        kind, argument = self._kind(path)
        fails = {
            "failing": self.failing,
            "flaky": argument.isdecimal() and self.hits[path] <= int(argument),
        }
        special = {
            "status": int(argument) if kind == "status" else 0,
            "poison": NO_ANSWER,
            "moved": 302,
        }
        return special.get(kind, 503 if fails.get(kind) else 200)

    @staticmethod
    def _kind(path: str) -> tuple[str, str]:
        parts = [*path.split("/"), ""]
        return parts[1], parts[2]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed while they waited."""


class _Page(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hit = self.server.note_hit(self.path, self.headers["If-None-Match"])
        parts = self.path.split("/")
        if parts[1] == "held":
            self.server.wait()
        if parts[1] == "slow":
            self.server.pause(int(parts[2]) / 1000)
        self.server.on_hit(self.path)
        if hit.status == NO_ANSWER:
            self.server.on_poison()
            self.close_connection = True
            return
        self._answer(hit)

    def _answer(self, hit: Hit) -> None:
        body = self._body(self.path.split("/"))
        self.send_response(hit.status)
        self.send_header("X-Hit", str(hit.number))
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Set-Cookie", "a=b; Path=/; HttpOnly")
        if self.path.startswith("/tagged/"):
            self.send_header("ETag", self.server.etag)
        if self.path.startswith("/moved/"):
            self.send_header("Location", self.path.removeprefix("/moved"))
        if hit.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if hit.status != HTTPStatus.NOT_MODIFIED:
            self.wfile.write(body)

    def _body(self, parts: list[str]) -> bytes:
        if "big" in parts:
            return b"x" * int(parts[parts.index("big") + 1])
        end = "\0" if parts[1] == "nul" else ""
        edition = self.server.edition if parts[1] == "tagged" else ""
        return f"<!doctype html><title>{self.path}</title>{edition}{end}".encode()

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output to the tests."""


@contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[Site]:
    with Site(address) as site:
        thread = Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.release()
            site.shutdown()
            thread.join()
