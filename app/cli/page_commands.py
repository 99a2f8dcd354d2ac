"""`submit`, `get` and `delete`: request pages, read and delete results through the HTTP API."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from app.cli.api_client import CONCURRENT_CALLS, MAX_WAIT_SECONDS, ApiClient
from app.cli.batches import submit_in_batches
from app.cli.showing import FACTS, Answer, show_answers, show_page
from app.cli.terminal import (
    DEFAULT_API,
    EXIT_BAD_RESULT,
    ApiUrl,
    Json,
    Key,
    confirm,
    print_json,
    progress,
    run,
)

MIN_WAIT_SECONDS = 2

DELETE_TIMEOUT_SECONDS = 60.0
"""How long to try again while the API answers 429 or 503."""

SUMMARY_FIELDS = ("status_code", "body_bytes", "document")
"""What `submit` reports of a page's metadata. Nothing else of it is asked for."""

Urls = Annotated[list[str] | None, typer.Argument(metavar="URL...", help="Pages to request")]
File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="A file with one URL a line; lines that begin with # are left out, and - reads the "
        "standard input",
    ),
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

    The URLs of a --file are sent in batches of up to 1000, one after another, so that ten thousand
    take seconds. With --wait each is asked for by a call of its own.

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
    in_batches = file is not None and not wait
    answers = run(
        _submit_file(client, pages) if in_batches else _submit_all(client, pages, wait=wait)
    )
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
        confirm(f"Delete {url} for good?", as_json=as_json)
    answer = run(_delete(ApiClient(api, DELETE_TIMEOUT_SECONDS, key=key), url))
    if as_json:
        print_json(answer)
    else:
        show_answers([answer], {"DELETED"})
    if answer["status"] != "DELETED":
        raise typer.Exit(EXIT_BAD_RESULT)


def _fair_wait(pages: int) -> int:
    """Return how long a call may wait for one of many pages, so that none waits long for its turn.

    Pages that are tried again after some minutes would otherwise hold up all others.
    """
    in_turn = MAX_WAIT_SECONDS * CONCURRENT_CALLS // pages
    return max(MIN_WAIT_SECONDS, min(MAX_WAIT_SECONDS, in_turn))


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


async def _submit_file(client: ApiClient, urls: list[str]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    with progress() as shown:
        task = shown.add_task("requests", total=len(urls))
        async with aclosing(client), aclosing(submit_in_batches(client, urls)) as settled:
            async for some in settled:
                pages = await asyncio.gather(*(_with_record(client, it) for it in some.values()))
                answers |= zip(some, map(_summary, pages), strict=True)
                shown.advance(task, len(some))
    return [answers[number] for number in range(len(urls))]


async def _with_record(client: ApiClient, answer: Answer) -> Answer:
    """Return an answer to a batch, with the rest of the record of a page that was not queued."""
    if answer["status"] in {"QUEUED", "ERROR"}:
        return answer
    page = await client.read_known(answer["url"])
    return answer if page["status"] == "ERROR" else page | answer


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
        text = (
            typer.get_text_stream("stdin").read()
            if str(file) == "-"
            else file.read_text("utf-8-sig")
        )
    except (OSError, UnicodeError) as exc:
        raise typer.BadParameter(str(exc)) from exc
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
