"""A small site whose pages a test can hold back, fail and count."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class Site(ThreadingHTTPServer):
    """Pages under `/`, some of which are special.

    `/held/…` waits for `release()`, `/slow/200/…` takes 200 ms, `/status/503/…` answers 503,
    `/failing/…` does so for as long as `failing` is set, `/big/1000` has 1000 bytes, also
    after another of these, `/nul` a NUL.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), _Page)
        self._address = address
        self.hits: Counter[str] = Counter()
        self.failing = False
        self.on_hit: Callable[[str], None] = lambda _path: None
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

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed while they waited."""


class _Page(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.hits[self.path] += 1
        parts = self.path.split("/")
        if parts[1] == "held":
            self.server.wait()
        if parts[1] == "slow":
            self.server.pause(int(parts[2]) / 1000)
        self.server.on_hit(self.path)
        self._answer(self._status(parts))

    def _status(self, parts: list[str]) -> int:
        if parts[1] == "status":
            return int(parts[2])
        return 503 if parts[1] == "failing" and self.server.failing else 200

    def _answer(self, status: int) -> None:
        body = self._body(self.path.split("/"))
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Set-Cookie", "a=b; Path=/; HttpOnly")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _body(self, parts: list[str]) -> bytes:
        if "big" in parts:
            return b"x" * int(parts[parts.index("big") + 1])
        end = "\0" if parts[1] == "nul" else ""
        return f"<!doctype html><title>{self.path}</title>{end}".encode()

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
