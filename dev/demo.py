"""`just demo [--keep] [URL...]`: start the whole service, fetch some pages, show them, stop it all.

With `--keep` everything goes on running until Ctrl-C, to be looked at in a browser.

Without URLs the pages are those of a small site that the demo serves itself (`dev/site.py`), and
it is known how each of them has to end. With URLs the demo shows whatever comes.

Everything listens on free ports, so the demo can run beside anything else. On servers that
BROKER_URL and DATABASE_URL name it uses queues and a database of its own, and deletes them at the
end. The exit code is 0 only if every page ended as expected.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dev.private_names import private_names
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
COLUMNS_IN_A_PIPE = 120
TITLE_COLUMNS = 24
KEEP = "--keep"

# Short delays, so that the page that fails at first is soon tried again.
SETTINGS = {
    "WORKER_RETRY_DELAYS_SECONDS": "2",
    "WORKER_MAX_ATTEMPTS": "3",
    "WORKER_SHUTDOWN_GRACE_SECONDS": "5",
}

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """A page to ask for, and how it has to end; None stands for any value."""

    url: str
    status: str = "COMPLETED"
    http_status: int | None = None
    attempts: int | None = None
    error_kind: str | None = None


def expected_at(site: str) -> list[Expected]:
    """Return the pages that the demo asks for if it is called without URLs."""
    return [
        Expected(f"{site}/", http_status=200, attempts=1),
        Expected(f"{site}/moved", http_status=200, attempts=1),
        Expected(f"{site}/missing", http_status=404, attempts=1),
        Expected(f"{site}/flaky", http_status=200, attempts=2),
        Expected(f"{site}/poem.txt", http_status=200, attempts=1),
        Expected("http://no-such-host.invalid/", status="FAILED_PERMANENT", error_kind="dns"),
    ]


# --- From start to end ----------------------------------------------------------------------------


def main() -> None:
    """Run the demo with the URLs among the arguments."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM then ends it as Ctrl-C does
    arguments = sys.argv[1:]
    urls = [argument for argument in arguments if argument != KEEP]
    try:
        differences = run(urls, keep=KEEP in arguments)
    except KeyboardInterrupt:
        sys.exit("Interrupted; everything is stopped.")
    except (ServerMissing, ServerFailed) as exc:
        sys.exit(str(exc))
    say("\n".join(["", *verdict(differences), "", *_next_steps()]))
    sys.exit(1 if differences else 0)


def run(urls: Sequence[str], *, keep: bool) -> list[str]:
    """Start everything, fetch the pages, show them and stop everything.

    With `keep` it is stopped only when the person interrupts. Returns a line for each thing that is
    not as expected.
    """
    with fetched(urls) as (api, expected, answers):
        _show(expected, answers)
        if keep:
            say(f"It goes on running until Ctrl-C: {api.url}/inventory")
            with suppress(KeyboardInterrupt):
                signal.pause()
    pairs = zip(expected, answers, strict=True)
    return [difference for pair in pairs for difference in _differences(*pair)]


@contextmanager
def fetched(urls: Sequence[str]) -> Iterator[tuple[Api, list[Expected], list[Answer]]]:
    """Run the service while the block lasts, and have it fetch the pages before that."""
    with ExitStack() as stack:
        stack.enter_context(_emptied_folder())
        expected = [Expected(url) for url in urls]
        allowed_networks = ""
        if not expected:
            # The demo's own site is on this machine. For any other page the guard stays closed.
            expected = expected_at(stack.enter_context(DemoSite()).url)
            allowed_networks = "127.0.0.0/8"
        api = stack.enter_context(
            _service({**SETTINGS, "FETCH_ALLOWED_NETWORKS": allowed_networks})
        )
        say(f"\nLook at {api.url}/inventory while it runs.")
        yield api, expected, asyncio.run(_fetch_all(api, expected))


@contextmanager
def _emptied_folder() -> Iterator[None]:
    """Empty the demo's folder, and keep only the logs when the block is left.

    Raises `ServerFailed` while another demo uses the folder.
    """
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
            for data in FOLDER.glob("*/data"):
                shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _service(settings: dict[str, str]) -> Iterator[Api]:
    """Run the servers, a worker and the API; yield the API once all of them are ready."""
    with (
        services(FOLDER, say=say) as addresses,
        private_names(
            settings_in_file() | addresses | settings, started_here=addresses, say=say
        ) as environment,
    ):
        api = Api(FOLDER, environment=environment)
        with running(Worker(FOLDER, environment=environment), api, say=say):
            yield api


# --- Asking for pages -----------------------------------------------------------------------------


async def _fetch_all(api: Api, expected: Sequence[Expected]) -> list[Answer]:
    say(f"Asking for {len(expected)} pages at {api.url}/metadata ...")
    started = time.monotonic()
    async with httpx.AsyncClient(
        base_url=api.url,
        timeout=REQUEST_TIMEOUT_SECONDS,
        trust_env=False,
        # uvicorn closes a connection that was idle for 5 s, and `Retry-After: 5` asks for a pause
        # just as long: a connection that is kept may be closed as the next request is sent.
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as client:
        pages = [_Page(client, page.url, started) for page in expected]
        try:
            return await asyncio.gather(*(page.fetch() for page in pages))
        except httpx.TransportError as exc:
            raise ServerFailed(f"The API does not answer ({exc!r}); see {api.log}") from exc


class _Page:
    """Follows one page through the service and prints each of its statuses once."""

    def __init__(self, client: httpx.AsyncClient, url: str, started: float) -> None:
        self._client = client
        self._url = url
        self._started = started
        self._status = ""

    async def fetch(self) -> Answer:
        """Ask for the page, then read it until it has ended."""
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
        """Send a request again for as long as its answer has a `Retry-After`."""
        while True:
            response = await request()
            answer = _answer(response)
            self._print(answer)
            if "Retry-After" not in response.headers:
                return answer
            await asyncio.sleep(float(response.headers["Retry-After"]))

    def _print(self, answer: Answer) -> None:
        if answer["status"] == self._status:
            return
        self._status = answer["status"]
        seconds = time.monotonic() - self._started
        reason = (answer.get("error") or {}).get("message", "")
        say(f"{seconds:5.1f} s  {self._status:<16}  {self._url}  {reason}".rstrip())


def _answer(response: httpx.Response) -> Answer:
    answer: Answer = response.json()
    if response.is_error:
        return _refusal(str(answer["status"]), answer["detail"])
    return answer


def _refusal(kind: str, message: str) -> Answer:
    return {"status": "NO RESULT", "error": {"kind": kind, "message": message}}


def _is_refusal(answer: Answer) -> bool:
    return "url" not in answer


# --- Showing the results --------------------------------------------------------------------------


def _show(expected: Sequence[Expected], answers: Sequence[Answer]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("Page", overflow="fold")
    table.add_column("Title", max_width=TITLE_COLUMNS, no_wrap=True)
    table.add_column("Status", no_wrap=True)
    for heading in ("HTTP", "Headers", "Cookies", "Bytes", "Attempts", "Time"):
        table.add_column(heading, justify="right")
    for page, answer in zip(expected, answers, strict=True):
        table.add_row(Text(page.url), Text(_title(answer)), *_cells(answer))
    console = Console()
    if not console.is_terminal:
        console.width = COLUMNS_IN_A_PIPE
    console.print(table)


def _title(answer: Answer) -> str:
    """Return the title of a page on one line; `-` if it has none."""
    document = (answer.get("metadata") or {}).get("document") or {}
    return " ".join((document.get("title") or "-").split())


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


def _differences(expected: Expected, answer: Answer) -> list[str]:
    seen = {
        "status": answer["status"],
        "http_status": (answer.get("metadata") or {}).get("status_code"),
        "attempts": answer.get("attempts"),
        "error_kind": (answer.get("error") or {}).get("kind"),
    }
    reason = (answer.get("error") or {}).get("message")
    return [
        f"{expected.url}: {name} is {value}, not {getattr(expected, name)}"
        + (f" ({reason})" if reason else "")
        for name, value in seen.items()
        if getattr(expected, name) not in (None, value)
    ]


def verdict(differences: Sequence[str]) -> list[str]:
    """Return the lines that sum up how the pages ended."""
    if not differences:
        return ["Every page ended as expected."]
    return ["Not every page ended as expected:", *(f"  {text}" for text in differences)]


def _next_steps() -> list[str]:
    """Return what to try next; `just` is named as the caller has called it."""
    just = Path(os.environ.get("JUST", "just"))
    name = just.relative_to(ROOT) if just.is_relative_to(ROOT) else Path("just")
    steps = {
        f"{name} demo URL ...": "fetch pages of your choice",
        f"{name} demo {KEEP}": "leave it running, to look at the inventory in a browser",
        f"{name} up": f"keep it running: http://127.0.0.1:{API_PORT}/inventory, /docs, /redoc",
        f"{FOLDER.relative_to(ROOT)}/*.log": "what the API and the worker have just logged",
    }
    width = max(map(len, steps))
    return ["Next:", *(f"  {step:<{width}}  {what}" for step, what in steps.items())]


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
