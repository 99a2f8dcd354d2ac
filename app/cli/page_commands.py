"""`submit` and `get`: request pages and read results through the HTTP API."""

import asyncio
import time
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table
from rich.text import Text

from app.cli.terminal import (
    DEFAULT_API,
    EXIT_BAD_RESULT,
    ApiUrl,
    Json,
    console,
    fail,
    print_json,
    print_table,
    progress,
    run,
)

CONCURRENT_CALLS = 16

MAX_SHOWN = 20
"""How many pages `submit` shows that have ended well."""

MAX_PREVIEW = 300
"""How many characters of a title or description are shown."""

LONGEST_PAUSE_SECONDS = 5.0
"""How long to wait at most before the next try, whatever `Retry-After` says."""

Urls = Annotated[list[str] | None, typer.Argument(metavar="URL...", help="Pages to request")]
File = Annotated[
    Path | None,
    typer.Option("--file", help="A file with one URL a line; - reads the standard input"),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until every page is COMPLETED or has failed")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds after which to stop waiting")]

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
    """Request pages. While the queue is full, try again.

    With --wait, a page that was fetched before counts as COMPLETED at once, by its last result.
    Exit code: 0 if every page was queued (with --wait: is COMPLETED), 1 if one was not, 2 if the
    API does not answer.
    """
    pages = [*(urls or ()), *_lines_of(file)]
    if not pages:
        raise typer.BadParameter("give URLs, or a --file with URLs")
    answers = run(_submit_all(ApiClient(api, timeout), pages, wait=wait))
    good = "COMPLETED" if wait else "QUEUED"
    if as_json:
        print_json(answers)
    else:
        show_answers(answers, good)
    if any(answer["status"] != good for answer in answers):
        raise typer.Exit(EXIT_BAD_RESULT)


def get(
    url: str,
    *,
    wait: Wait = False,
    timeout: Timeout = 60.0,
    api: ApiUrl = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Show the record of a page. A page without a record is queued.

    Exit code: 0 if the page is COMPLETED, 1 if it is not (yet), 2 if the API does not answer.
    """
    page = run(_get(ApiClient(api, timeout), url, wait=wait))
    if as_json:
        print_json(page)
    else:
        show_page(page)
    if page["status"] != "COMPLETED":
        raise typer.Exit(EXIT_BAD_RESULT)


class ApiClient:
    """Calls the API, and tries again after 202 and 503 until the timeout is over."""

    def __init__(self, api: str, timeout_seconds: float) -> None:
        self._api = api
        self._give_up_at = time.monotonic() + timeout_seconds
        # uvicorn closes a connection after 5 s without a request, and a 503 asks to wait 5 s: the
        # next request would be sent on a connection that is just being closed.
        limits = httpx.Limits(keepalive_expiry=2)
        self._client = httpx.AsyncClient(base_url=api, timeout=30, trust_env=False, limits=limits)
        self._calls = asyncio.Semaphore(CONCURRENT_CALLS)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def submit(self, url: str) -> Answer:
        """Have a page queued, and try again while the answer is 503."""
        return await self._until_final(url, {503}, "POST", json={"url": url})

    async def read(self, url: str) -> Answer:
        """Return the record of a page as it is now."""
        return _parsed(url, await self._call("GET", params={"url": url}))

    async def read_when_ended(self, url: str) -> Answer:
        """Return the record of a page once it is COMPLETED or has failed, or at the timeout."""
        return await self._until_final(url, {202, 503}, "GET", params={"url": url})

    async def _until_final(self, url: str, again: set[int], method: str, **options: Any) -> Answer:
        while True:
            answer = await self._call(method, **options)
            if answer.status_code not in again or time.monotonic() > self._give_up_at:
                return _parsed(url, answer)
            await _pause(answer)

    async def _call(self, method: str, **options: Any) -> httpx.Response:
        async with self._calls:
            try:
                return await self._client.request(method, "/metadata", **options)
            except (httpx.TransportError, httpx.InvalidURL) as exc:
                fail(f"no answer from {self._api} ({type(exc).__name__}); is the API running?")


async def _pause(answer: httpx.Response) -> None:
    asked_for = answer.headers.get("retry-after", "1")
    seconds = float(asked_for) if asked_for.isdecimal() else 1.0
    await asyncio.sleep(min(seconds, LONGEST_PAUSE_SECONDS))


def _parsed(url: str, answer: httpx.Response) -> Answer:
    """Return the record in an answer; a problem becomes `status: ERROR` with its detail."""
    try:
        body = answer.json()
    except ValueError:
        body = {"detail": f"{answer.status_code} {answer.reason_phrase}"}
    if isinstance(body, dict) and "url" in body:
        return body
    detail = body.get("detail", answer.reason_phrase) if isinstance(body, dict) else str(body)
    return {"status": "ERROR", "url": url, "error": {"kind": "refused", "message": detail}}


async def _get(client: ApiClient, url: str, *, wait: bool) -> Answer:
    async with aclosing(client):
        return await (client.read_when_ended(url) if wait else client.read(url))


async def _submit_all(client: ApiClient, urls: list[str], *, wait: bool) -> list[Answer]:
    with progress() as shown:
        task = shown.add_task("pages" if wait else "requests", total=len(urls))

        async def submit_one(url: str) -> Answer:
            answer = await _submit(client, url, wait=wait)
            shown.advance(task)
            return answer

        async with aclosing(client):
            return list(await asyncio.gather(*map(submit_one, urls)))


async def _submit(client: ApiClient, url: str, *, wait: bool) -> Answer:
    answer = await client.submit(url)
    if wait and answer["status"] != "ERROR":
        return _summary(await client.read_when_ended(url))
    return answer


def _summary(page: Answer) -> Answer:
    """Return a record without its long fields, which `get` shows."""
    kept = ("status", "url", "request_id", "attempts", "error")
    short = {name: page[name] for name in kept if page.get(name) is not None}
    metadata = page.get("metadata") or {}
    if not metadata:
        return short
    shown = {name: metadata[name] for name in ("status_code", "body_bytes")}
    return short | shown | {"title": (metadata.get("document") or {}).get("title")}


def _lines_of(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()
    except OSError as exc:
        raise typer.BadParameter(str(exc)) from exc
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def show_answers(answers: list[Answer], good: str) -> None:
    """Print the pages that did not end well, and all if there are few; then how many ended how."""
    shown = [it for it in answers if it["status"] != good or len(answers) <= MAX_SHOWN]
    if shown:
        print_table(_table(shown))
    counts = Counter(answer["status"] for answer in answers)
    console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))


def _table(answers: list[Answer]) -> Table:
    # A page may have any title: it must not be read as markup.
    has_titles = any(answer.get("title") for answer in answers)
    table = Table(box=None, show_header=has_titles)
    for heading in ("status", "url", *(["title"] if has_titles else []), "reason"):
        table.add_column(heading, overflow="fold")
    for answer in answers:
        title = [Text(_one_line(answer.get("title") or ""))] if has_titles else []
        table.add_row(answer["status"], Text(answer["url"]), *title, Text(_reason(answer)))
    return table


def _reason(answer: Answer) -> str:
    error: Answer = answer.get("error") or {}
    return str(error.get("message", ""))


def show_page(page: Answer) -> None:
    """Print a record as a table: first a preview of the page, then the facts."""
    metadata = page.get("metadata") or {}
    table = Table(box=None, show_header=False)
    facts = {
        **_preview(metadata.get("document") or {}),
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
            table.add_row(name, Text(str(value)))
    print_table(table)


def _preview(document: Answer) -> Answer:
    """Return what the page says about itself, as far as a link preview would show it."""
    texts = {
        "title": document.get("title"),
        "description": document.get("description"),
        "site": document.get("site_name"),
        "image": (document.get("image") or {}).get("url"),
        "language": document.get("language"),
    }
    return {name: _one_line(text) for name, text in texts.items() if text}


def _one_line(text: str) -> str:
    """Return a text of a page for the terminal: without line breaks and control characters."""
    printable = "".join(it if it.isprintable() else " " for it in text)
    short = " ".join(printable.split())
    return short if len(short) <= MAX_PREVIEW else f"{short[: MAX_PREVIEW - 1]}…"


_FACTS = ("final_url", "status_code", "content_type", "charset", "body_bytes", "elapsed_ms")
