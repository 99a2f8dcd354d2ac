"""A small site whose pages a test can hold back, fail and count."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class Site(ThreadingHTTPServer):
    """Pages under `/`; `/held/…` waits for `release()`, `/status/503` answers 503."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.hits: Counter[str] = Counter()
        self._gate = Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def release(self) -> None:
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    def wait(self) -> None:
        self._gate.wait(60)

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
        self._answer(int(parts[2]) if parts[1] == "status" else 200)

    def _answer(self, status: int) -> None:
        body = f"<!doctype html><title>{self.path}</title>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Set-Cookie", "a=b; Path=/; HttpOnly")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output to the tests."""


@contextmanager
def serving() -> Iterator[Site]:
    with Site() as site:
        thread = Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.release()
            site.shutdown()
            thread.join()
