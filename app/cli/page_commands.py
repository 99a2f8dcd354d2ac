"""`submit` and `get`: the HTTP API from a shell."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.terminal import (
    DEFAULT_API,
    NOT_AS_WISHED,
    ApiUrl,
    Json,
    console,
    fail,
    print_json,
    progress_console,
    run,
)

CALLS_AT_ONCE = 16
LONGEST_PAUSE_SECONDS = 5.0

Urls = Annotated[list[str] | None, typer.Argument(metavar="URL...", help="Pages to ask for")]
File = Annotated[
    Path | None, typer.Option("--file", help="One URL a line; - is the standard input")
]
Wait = Annotated[bool, typer.Option("--wait", help="Return once every page has ended")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds for all of it")]

Answer = dict[str, Any]


def submit(  # noqa: PLR0913 - each is an option of its own
    urls: Urls = None,
    *,
    file: File = None,
    wait: Wait = False,
    timeout: Timeout = 3600.0,
    api: ApiUrl = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Ask for pages. A full queue is waited for.

    With --wait a page counts as it is: one that is known already answers with its last result.
    Exit code: 0 if every page was taken (with --wait: is COMPLETED), 1 if not, 2 without an API.
    """
    wanted = [*(urls or ()), *_lines_of(file)]
    if not wanted:
        raise typer.BadParameter("name URLs, or a --file of them")
    answers = run(_submit_all(Caller(api, timeout), wanted, wait=wait))
    good = "COMPLETED" if wait else "QUEUED"
    if as_json:
        print_json(answers)
    else:
        _tell(answers, good)
    if any(answer["status"] != good for answer in answers):
        raise typer.Exit(NOT_AS_WISHED)


def get(
    url: str,
    *,
    wait: Wait = False,
    timeout: Timeout = 60.0,
    api: ApiUrl = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Show what is known of a page; one that is unknown is queued.

    Exit code: 0 if it is COMPLETED, 1 if not (yet), 2 without an answer.
    """
    caller = Caller(api, timeout)
    page = run(caller.session(lambda: caller.ended(url) if wait else caller.page(url)))
    if as_json:
        print_json(page)
    else:
        _show(page)
    if page["status"] != "COMPLETED":
        raise typer.Exit(NOT_AS_WISHED)


class Caller:
    """Calls the API, patiently, until its time is over."""

    def __init__(self, api: str, timeout_seconds: float) -> None:
        self._api = api
        self._give_up = time.monotonic() + timeout_seconds
        # uvicorn closes connections that were idle for 5 s, just as long as a 503 asks to wait.
        limits = httpx.Limits(keepalive_expiry=2)
        self._client = httpx.AsyncClient(base_url=api, timeout=30, trust_env=False, limits=limits)
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)

    async def session(self, work: Any) -> Any:
        """Return what `work()` does with the connections, which are closed then."""
        async with self._client:
            return await work()

    async def ask_for(self, url: str) -> Answer:
        """Queue a page, again while the service has no room for it."""
        while True:
            answer = await self._call("POST", json={"url": url})
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or self._is_late():
                return _understood(url, answer)
            await _pause(answer)

    async def page(self, url: str) -> Answer:
        """Return the record of a page as it is."""
        return _understood(url, await self._call("GET", params={"url": url}))

    async def ended(self, url: str) -> Answer:
        """Return the record of a page once it has ended, or when time is up."""
        while True:
            answer = await self._call("GET", params={"url": url})
            unfinished = answer.status_code in (202, 503)
            if not unfinished or self._is_late():
                return _understood(url, answer)
            await _pause(answer)

    async def _call(self, method: str, **options: Any) -> httpx.Response:
        async with self._turns:
            try:
                return await self._client.request(method, "/metadata", **options)
            except (httpx.TransportError, httpx.InvalidURL) as exc:
                fail(f"no answer from {self._api} ({type(exc).__name__}); is the API running?")

    def _is_late(self) -> bool:
        return time.monotonic() > self._give_up


async def _pause(answer: httpx.Response) -> None:
    asked_for = answer.headers.get("retry-after", "1")
    seconds = float(asked_for) if asked_for.isdecimal() else 1.0
    await asyncio.sleep(min(seconds, LONGEST_PAUSE_SECONDS))


def _understood(url: str, answer: httpx.Response) -> Answer:
    """Return what the API said; a problem becomes `status: ERROR` with its words."""
    try:
        body = answer.json()
    except ValueError:
        body = {"detail": f"{answer.status_code} {answer.reason_phrase}"}
    if isinstance(body, dict) and "url" in body:
        return body
    words = body.get("detail", answer.reason_phrase) if isinstance(body, dict) else str(body)
    return {"status": "ERROR", "url": url, "error": {"kind": "refused", "message": words}}


async def _submit_all(caller: Caller, urls: list[str], *, wait: bool) -> list[Answer]:
    with _progress() as progress:
        task = progress.add_task("pages" if wait else "requests", total=len(urls))

        async def one(url: str) -> Answer:
            answer = await caller.ask_for(url)
            if wait and answer["status"] != "ERROR":
                answer = _in_short(await caller.ended(url))
            progress.advance(task)
            return answer

        async def all_of_them() -> list[Answer]:
            return list(await asyncio.gather(*map(one, urls)))

        answers: list[Answer] = await caller.session(all_of_them)
    return answers


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        console=progress_console,
        disable=not progress_console.is_terminal,
    )


def _in_short(page: Answer) -> Answer:
    """Leave out what is long: `get` has it."""
    kept = ("status", "url", "request_id", "attempts", "error")
    short = {name: page[name] for name in kept if page.get(name) is not None}
    metadata = page.get("metadata") or {}
    return short | {name: metadata[name] for name in ("status_code", "body_bytes") if metadata}


def _lines_of(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()
    except OSError as exc:
        raise typer.BadParameter(str(exc)) from exc
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _tell(answers: list[Answer], good: str) -> None:
    for answer in answers:
        if answer["status"] != good or len(answers) == 1:
            console.print(answer["status"], answer["url"], _reason(answer), soft_wrap=True)
    counts = Counter(answer["status"] for answer in answers)
    console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))


def _reason(answer: Answer) -> str:
    error: Answer = answer.get("error") or {}
    return str(error.get("message", ""))


def _show(page: Answer) -> None:
    metadata = page.get("metadata") or {}
    table = Table(box=None, show_header=False)
    facts = {
        "url": page["url"],
        "status": page["status"],
        "reason": _reason(page),
        "attempts": page.get("attempts"),
        **{name: metadata.get(name) for name in _FACTS},
        "headers": len(metadata.get("headers", ())) or None,
        "cookies": len(metadata.get("cookies", ())) or None,
        "request_id": page.get("request_id"),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    console.print(table, soft_wrap=True)


_FACTS = ("final_url", "status_code", "content_type", "charset", "body_bytes", "elapsed_ms")
