"""`submit`, `get` and `delete`: request pages, read and delete results through the HTTP API."""

import asyncio
import math
import time
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from app.cli.showing import FACTS, Answer, show_answers, show_page
from app.cli.terminal import (
    DEFAULT_API,
    EXIT_BAD_RESULT,
    ApiUrl,
    Json,
    Key,
    fail,
    print_json,
    progress,
    run,
)

CONCURRENT_CALLS = 64

MAX_WAIT_SECONDS = 60
"""How long a call waits for a page at most: the API would not wait longer either."""

MIN_WAIT_SECONDS = 2

TRY_AGAIN: frozenset[int] = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
)

DELETE_TIMEOUT_SECONDS = 60.0
"""How long to try again while the API answers 429 or 503."""

SUMMARY_FIELDS = ("status_code", "body_bytes", "document")
"""What `submit` reports of a page's metadata. Nothing else of it is asked for."""

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
MaxAge = Annotated[
    int | None,
    typer.Option("--max-age", min=0, help="Be content with a result of at most so many seconds"),
]
Fields = Annotated[
    str | None,
    typer.Option("--fields", help="Names of fields of the metadata, separated by commas"),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds after which to stop waiting")]


def submit(  # noqa: PLR0913 - each is an option of its own
    urls: Urls = None,
    *,
    file: File = None,
    wait: Wait = False,
    max_age: MaxAge = None,
    timeout: Timeout = 3600.0,
    api: ApiUrl = DEFAULT_API,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Request pages. While the queue is full, try again.

    With --wait, the result of each page is that of a new fetch. If that takes longer than a minute,
    and the page was fetched before, it is the last result.
    Exit code: 0 if every page was queued or is COMPLETED (with --wait: is COMPLETED), 1 if one was
    not, 2 if the API does not answer.
    """
    pages = [*(urls or ()), *_lines_of(file)]
    if not pages:
        raise typer.BadParameter("give URLs, or a --file with URLs")
    wait_seconds = _fair_wait(len(pages)) if wait else None
    fields = ",".join(SUMMARY_FIELDS)
    client = ApiClient(
        api, timeout, key=key, wait_seconds=wait_seconds, max_age=max_age, fields=fields
    )
    answers = run(_submit_all(client, pages, wait=wait))
    good = {"COMPLETED"} if wait else {"QUEUED", "COMPLETED"}
    if as_json:
        print_json(answers)
    else:
        show_answers(answers, good)
    if any(answer["status"] not in good for answer in answers):
        raise typer.Exit(EXIT_BAD_RESULT)


def get(  # noqa: PLR0913 - each is an option of its own
    url: str,
    *,
    wait: Wait = False,
    fields: Fields = None,
    max_age: MaxAge = None,
    timeout: Timeout = 60.0,
    api: ApiUrl = DEFAULT_API,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show the record of a page. A page without a record is queued.

    Exit code: 0 if the page is COMPLETED, 1 if it is not (yet), 2 if the API does not answer.
    """
    wait_seconds = MAX_WAIT_SECONDS if wait else None
    client = ApiClient(
        api, timeout, key=key, wait_seconds=wait_seconds, max_age=max_age, fields=fields
    )
    page = run(_get(client, url, wait=wait))
    if as_json:
        print_json(page)
    else:
        show_page(page, fields.split(",") if fields else FACTS)
    if page["status"] != "COMPLETED":
        raise typer.Exit(EXIT_BAD_RESULT)


def delete(
    url: str,
    *,
    yes: Yes = False,
    api: ApiUrl = DEFAULT_API,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Delete a page: its result, and every request for it so far. Asks first.

    The answer is the same for a page that is not known. Whoever asks for the page later has it
    fetched anew.

    Exit code: 0, 1 if the answer was no or the API refuses, 2 if the API does not answer.
    """
    if not yes:
        typer.confirm(f"Delete {url} for good?", abort=True, err=as_json)
    answer = run(_delete(ApiClient(api, DELETE_TIMEOUT_SECONDS, key=key), url))
    if as_json:
        print_json(answer)
    else:
        show_answers([answer], {"DELETED"})
    if answer["status"] != "DELETED":
        raise typer.Exit(EXIT_BAD_RESULT)


class ApiClient:
    """Calls the API, and tries again after 429 and 503 until the timeout is over.

    With `wait_seconds` the API answers when a page has ended, but not later than that; then it is
    asked again. `max_age` and `fields` are passed on.
    """

    def __init__(  # noqa: PLR0913 - each is an option of its own
        self,
        api: str,
        timeout_seconds: float,
        *,
        key: str | None = None,
        wait_seconds: int | None = None,
        max_age: int | None = None,
        fields: str | None = None,
    ) -> None:
        self._api = api
        self._wait_seconds = wait_seconds
        self._max_age = {} if max_age is None else {"max_age": max_age}
        self._fields = {} if fields is None else {"fields": fields}
        self._give_up_at = time.monotonic() + timeout_seconds
        # uvicorn closes a connection after 5 s without a request, and a 503 asks to wait 5 s: the
        # next request would be sent on a connection that is just being closed.
        limits = httpx.Limits(keepalive_expiry=2)
        timeout = httpx.Timeout(30, read=MAX_WAIT_SECONDS + 30)
        self._client = httpx.AsyncClient(
            base_url=api,
            timeout=timeout,
            trust_env=False,
            limits=limits,
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )
        self._calls = asyncio.Semaphore(CONCURRENT_CALLS)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def submit(self, url: str) -> Answer:
        """Have a page queued, and try again while the answer is 429 or 503."""
        body = {"url": url} | self._max_age
        return await self._until_final(url, TRY_AGAIN, "POST", json=body, params=self._fields)

    async def read(self, url: str) -> Answer:
        """Return the record of a page as it is now."""
        return _parsed(url, await self._call("GET", params=self._query(url)))

    async def read_when_ended(self, url: str) -> Answer:
        """Return the record of a page once it is COMPLETED or has failed, or at the timeout."""
        return await self._until_final(url, TRY_AGAIN | {202}, "GET", params=self._query(url))

    async def delete(self, url: str) -> Answer:
        """Have a page deleted, and try again while the answer is 429 or 503."""
        return await self._until_final(url, TRY_AGAIN, "DELETE", params={"url": url})

    def _query(self, url: str) -> dict[str, str | int]:
        return {"url": url} | self._max_age | self._fields

    async def _until_final(
        self, url: str, again: frozenset[int], method: str, **options: Any
    ) -> Answer:
        while True:
            answer = await self._call(method, **options)
            if answer.status_code not in again or time.monotonic() > self._give_up_at:
                return _parsed(url, answer)
            # An answer that was waited for need not be waited for again.
            if "preference-applied" not in answer.headers:
                await _pause(answer)

    async def _call(self, method: str, **options: Any) -> httpx.Response:
        async with self._calls:
            try:
                return await self._client.request(
                    method, "/metadata", headers=self._preference(), **options
                )
            except (httpx.TransportError, httpx.InvalidURL) as exc:
                fail(f"no answer from {self._api} ({type(exc).__name__}); is the API running?")

    def _preference(self) -> dict[str, str]:
        if self._wait_seconds is None:
            return {}
        left = max(1, math.ceil(self._give_up_at - time.monotonic()))
        return {"Prefer": f"wait={min(self._wait_seconds, left)}"}


def _fair_wait(pages: int) -> int:
    """Return how long a call may wait for one of many pages, so that none waits long for its turn.

    Pages that are tried again after some minutes would otherwise hold up all others.
    """
    in_turn = MAX_WAIT_SECONDS * CONCURRENT_CALLS // pages
    return max(MIN_WAIT_SECONDS, min(MAX_WAIT_SECONDS, in_turn))


async def _pause(answer: httpx.Response) -> None:
    asked_for = answer.headers.get("retry-after", "1")
    seconds = float(asked_for) if asked_for.isdecimal() else 1.0
    await asyncio.sleep(min(seconds, LONGEST_PAUSE_SECONDS))


def _parsed(url: str, answer: httpx.Response) -> Answer:
    """Return the record in an answer; a problem becomes `status: ERROR` with its detail."""
    if answer.status_code == HTTPStatus.NO_CONTENT:
        return {"status": "DELETED", "url": url}
    try:
        body = answer.json()
    except ValueError:
        body = {"detail": f"{answer.status_code} {answer.reason_phrase}"}
    if isinstance(body, dict) and "url" in body:
        return body
    detail = body.get("detail", answer.reason_phrase) if isinstance(body, dict) else str(body)
    return {"status": "ERROR", "url": url, "error": {"kind": "refused", "message": detail}}


async def _delete(client: ApiClient, url: str) -> Answer:
    async with aclosing(client):
        return await client.delete(url)


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
    if wait and answer["status"] not in ("COMPLETED", "FAILED_PERMANENT", "ERROR"):
        answer = await client.read_when_ended(url)
    return _summary(answer)


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
