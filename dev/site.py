"""A small site for the demo, so that it needs no internet."""

import threading
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the site: a status, headers in this order, a body."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


HOME = Answer(
    HTTPStatus.OK,
    (
        ("Content-Type", HTML),
        ("Set-Cookie", "visitor=demo; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"),
        ("Set-Cookie", "theme=dark; Path=/"),
    ),
    b"<!doctype html>\n<title>Home</title>\n<p>This page sets two cookies.\n",
)
MOVED = Answer(HTTPStatus.MOVED_PERMANENTLY, (("Location", "/"),))
MISSING = Answer(
    HTTPStatus.NOT_FOUND,
    (("Content-Type", HTML),),
    b"<!doctype html>\n<title>Not found</title>\n<p>A page that does not exist is a result too.\n",
)
BUSY = Answer(HTTPStatus.SERVICE_UNAVAILABLE, (("Content-Type", HTML), ("Retry-After", "1")))
RECOVERED = Answer(
    HTTPStatus.OK,
    (("Content-Type", HTML),),
    b"<!doctype html>\n<title>Flaky</title>\n<p>The second time it works.\n",
)
POEM = Answer(
    HTTPStatus.OK,
    (("Content-Type", "text/plain; charset=iso-8859-1"),),
    "Füllest wieder Busch und Tal\nStill mit Nebelglanz,\n".encode("iso-8859-1"),
)

ARTICLE = Answer(
    HTTPStatus.OK,
    (("Content-Type", HTML), ("Last-Modified", "Fri, 02 Jan 2026 06:41:00 GMT")),
    b"""<!doctype html>
<html lang="en">
<title>A beach at dawn - The Morning Walk</title>
<meta property="og:title" content="A beach at dawn">
<meta property="og:site_name" content="The Morning Walk">
<meta property="og:type" content="article">
<meta property="og:image" content="/dawn.svg">
<meta property="og:image:alt" content="Waves under a rising sun">
<meta name="description" content="Nobody is up yet, the sand is cold, and the sea has it all.">
<meta name="author" content="Jane Doe">
<p>Nobody is up yet.
""",
)
DAWN = Answer(
    HTTPStatus.OK,
    (("Content-Type", "image/svg+xml"),),
    b"""<svg xmlns="http://www.w3.org/2000/svg" width="600" height="240" viewBox="0 0 600 240">
<rect width="600" height="240" fill="#f6b26b"/><circle cx="300" cy="150" r="60" fill="#ffe599"/>
<path d="M0 150q50 -20 100 0t100 0 100 0 100 0 100 0 100 0v90h-600z" fill="#3d6fa8"/>
<path d="M0 190q75 -20 150 0t150 0 150 0 150 0v50h-600z" fill="#2b5080"/></svg>
""",
)

# The answers of each path, in turn. The last one repeats.
PAGES = {
    "/": (HOME,),
    "/moved": (MOVED,),
    "/missing": (MISSING,),
    "/flaky": (BUSY, RECOVERED),
    "/poem.txt": (POEM,),
    "/busy": (BUSY,),
    "/article": (ARTICLE,),
    "/dawn.svg": (DAWN,),
}


class DemoSite(ThreadingHTTPServer):
    """Serves the site on a free port of the loopback interface while its block lasts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self._visits: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The URL of the site, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str) -> Answer:
        """Return the next answer of the path."""
        answers = PAGES.get(path, (MISSING,))
        with self._lock:
            visit = self._visits[path]
            self._visits[path] += 1
        return answers[min(visit, len(answers) - 1)]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="site", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()


class _Visit(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: DemoSite

    def do_GET(self) -> None:
        answer = self.server.answer(urlsplit(self.path).path)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_args: object) -> None:
        """Log nothing: the demo prints what happens."""
