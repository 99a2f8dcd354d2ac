"""`just demo [URL...]`: the whole service at work, from nothing to a table of results.

Without URLs it serves a small site of its own (`dev/site.py`), and knows how each page has to end.
It listens on free ports, so it runs beside anything; on servers that BROKER_URL and DATABASE_URL
name it keeps to queues and a database of its own, which it deletes afterwards. The exit code is 0
only if every page ended as it should.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dev.borrowed import names_of_our_own
from dev.servers import ServerFailed, ServerMissing
from dev.site import DemoSite
from dev.stack import (
    API_PORT,
    ROOT,
    STATE,
    Api,
    Worker,
    running,
    services,
    settings_in_file,
)

FOLDER = STATE / "demo"
PAGE_DEADLINE_SECONDS = 90
REQUEST_TIMEOUT_SECONDS = 30
WIDTH_IN_A_PIPE = 120

# A page that fails is tried again soon, and three times at most.
SETTINGS = {
    "WORKER_RETRY_DELAYS_SECONDS": "2",
    "WORKER_MAX_ATTEMPTS": "3",
    "WORKER_SHUTDOWN_GRACE_SECONDS": "5",
}

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """A page to ask for and how it has to end; None is for whatever comes."""

    url: str
    status: str = "COMPLETED"
    http_status: int | None = None
    attempts: int | None = None
    error_kind: str | None = None


def wishes_at(site: str) -> list[Wish]:
    """Return what the demo asks for if nobody says otherwise."""
    return [
        Wish(f"{site}/", http_status=200, attempts=1),
        Wish(f"{site}/moved", http_status=200, attempts=1),
        Wish(f"{site}/missing", http_status=404, attempts=1),
        Wish(f"{site}/flaky", http_status=200, attempts=2),
        Wish(f"{site}/poem.txt", http_status=200, attempts=1),
        Wish("http://no-such-host.invalid/", status="FAILED_PERMANENT", error_kind="dns"),
    ]


# --- The story ------------------------------------------------------------------------------------


def main() -> None:
    """Run the demo for the URLs among the arguments."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    try:
        differences = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("Interrupted; everything is stopped.")
    except (ServerMissing, ServerFailed) as exc:
        sys.exit(str(exc))
    say("\n".join(["", *_verdict(differences), "", *_where_to_go()]))
    sys.exit(1 if differences else 0)


def run(urls: Sequence[str]) -> list[str]:
    """Start everything, fetch the pages, show them, stop everything; return what is amiss."""
    with ExitStack() as stack:
        stack.enter_context(_folder_to_itself())
        wishes = [Wish(url) for url in urls]
        exempt = ""
        if not wishes:
            # Only for a site of our own may the guard be open to this machine.
            wishes = wishes_at(stack.enter_context(DemoSite()).url)
            exempt = "127.0.0.0/8"
        api = stack.enter_context(_service({**SETTINGS, "FETCH_ALLOWED_NETWORKS": exempt}))
        answers = asyncio.run(_fetch_all(api, wishes))
        _show(wishes, answers)
    return [text for pair in zip(wishes, answers, strict=True) for text in _differences(*pair)]


@contextmanager
def _folder_to_itself() -> Iterator[None]:
    """Empty the folder of the last demo, unless that is still running; leave only logs."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ServerFailed("Another demo is running here; wait for it to end.") from exc
        shutil.rmtree(FOLDER, ignore_errors=True)
        try:
            yield
        finally:
            for data in FOLDER.glob("*/data"):  # of servers that have ended; the logs stay
                shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _service(settings: dict[str, str]) -> Iterator[Api]:
    with (
        services(FOLDER, say=say) as addresses,
        names_of_our_own(
            settings_in_file() | addresses | settings, ours=addresses, say=say
        ) as environment,
    ):
        api = Api(FOLDER, environment=environment)
        with running(Worker(FOLDER, environment=environment), api, say=say):
            yield api


# --- Asking for pages -----------------------------------------------------------------------------


async def _fetch_all(api: Api, wishes: Sequence[Wish]) -> list[Answer]:
    say(f"\nAsking for {len(wishes)} pages at {api.url}/metadata ...")
    begun = time.monotonic()
    async with httpx.AsyncClient(
        base_url=api.url, timeout=REQUEST_TIMEOUT_SECONDS, trust_env=False
    ) as client:
        pages = [_Page(client, wish.url, begun) for wish in wishes]
        try:
            return await asyncio.gather(*(page.fetch() for page in pages))
        except httpx.TransportError as exc:
            raise ServerFailed(f"The API does not answer ({exc!r}); see {api.log}") from exc


class _Page:
    """One page on its way through the service, telling each of its statuses once."""

    def __init__(self, client: httpx.AsyncClient, url: str, begun: float) -> None:
        self._client = client
        self._url = url
        self._begun = begun
        self._status = ""

    async def fetch(self) -> Answer:
        """Ask for the page, then look for it until it has ended one way or the other."""
        try:
            async with asyncio.timeout(PAGE_DEADLINE_SECONDS):
                answer = await self._ask(self._post)
                return answer if _is_refusal(answer) else await self._ask(self._get)
        except TimeoutError:
            return _refusal("timeout", f"no result within {PAGE_DEADLINE_SECONDS} s")

    async def _post(self) -> httpx.Response:
        return await self._client.post("/metadata", json={"url": self._url})

    async def _get(self) -> httpx.Response:
        return await self._client.get("/metadata", params={"url": self._url})

    async def _ask(self, request: Callable[[], Awaitable[httpx.Response]]) -> Answer:
        """Repeat a request for as long as the answer says when to come back."""
        while True:
            response = await request()
            answer = _answer(response)
            self._tell(answer)
            if "Retry-After" not in response.headers:
                return answer
            await asyncio.sleep(float(response.headers["Retry-After"]))

    def _tell(self, answer: Answer) -> None:
        if answer["status"] == self._status:
            return
        self._status = answer["status"]
        seconds = time.monotonic() - self._begun
        remark = (answer.get("error") or {}).get("message", "")
        say(f"{seconds:5.1f} s  {self._status:<16}  {self._url}  {remark}".rstrip())


def _answer(response: httpx.Response) -> Answer:
    answer: Answer = response.json()
    if response.is_error:
        return _refusal(str(answer["status"]), answer["detail"])
    return answer


def _refusal(kind: str, message: str) -> Answer:
    return {"status": "NO RESULT", "error": {"kind": kind, "message": message}}


def _is_refusal(answer: Answer) -> bool:
    return "url" not in answer


# --- Showing what came of it ----------------------------------------------------------------------


def _show(wishes: Sequence[Wish], answers: Sequence[Answer]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("Page", overflow="fold")
    table.add_column("Status", no_wrap=True)
    for heading in ("HTTP", "Headers", "Cookies", "Bytes", "Attempts", "Time"):
        table.add_column(heading, justify="right")
    for wish, answer in zip(wishes, answers, strict=True):
        table.add_row(Text(wish.url), *_cells(answer))
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_IN_A_PIPE
    console.print(table)


def _cells(answer: Answer) -> list[str]:
    attempts = str(answer.get("attempts", "-"))
    page = answer.get("metadata")
    if page is None:
        return [answer["status"], answer["error"]["kind"], *"---", attempts, "-"]
    return [
        answer["status"],
        str(page["status_code"]),
        str(len(page["headers"])),
        str(len(page["cookies"])),
        f"{page['body_bytes']:,}",
        attempts,
        f"{page['elapsed_ms']:.0f} ms",
    ]


def _differences(wish: Wish, answer: Answer) -> list[str]:
    seen = {
        "status": answer["status"],
        "http_status": (answer.get("metadata") or {}).get("status_code"),
        "attempts": answer.get("attempts"),
        "error_kind": (answer.get("error") or {}).get("kind"),
    }
    reason = (answer.get("error") or {}).get("message")
    return [
        f"{wish.url}: {name} is {value}, not {getattr(wish, name)}"
        + (f" ({reason})" if reason else "")
        for name, value in seen.items()
        if getattr(wish, name) not in (None, value)
    ]


def _verdict(differences: Sequence[str]) -> list[str]:
    if not differences:
        return ["Every page ended as it should."]
    return ["Not every page ended as it should:", *(f"  {text}" for text in differences)]


def _where_to_go() -> list[str]:
    just = Path(os.environ.get("JUST", "just"))
    name = just.relative_to(ROOT) if just.is_relative_to(ROOT) else Path("just")
    places = {
        f"{name} demo URL ...": "fetch pages of your choice",
        f"{name} up": f"keep it running: http://127.0.0.1:{API_PORT}/docs, /redoc, /asyncapi",
        f"{FOLDER.relative_to(ROOT)}/*.log": "what the API and the worker just logged",
    }
    width = max(map(len, places))
    return ["Next:", *(f"  {place:<{width}}  {what}" for place, what in places.items())]


def say(text: str) -> None:
    """Tell the person who called, at once, also through a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
