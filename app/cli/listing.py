"""`list`: the inventory through the HTTP API, as a table or as JSON."""

import math
import re
from collections.abc import AsyncIterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.cli.api_client import ApiClient, Query
from app.cli.showing import SECONDS_OF, Answer, show_list
from app.cli.terminal import DEFAULT_API, ApiUrl, Json, Key, print_json, run
from app.models import LISTED_STATUSES, PageStatus

TIMEOUT_SECONDS = 60.0
"""How long to try one call again while the API answers 429 or 503."""

_AGE = re.compile(r"([0-9]{1,9})([smhd])")


def moment(text: str) -> datetime:
    """Return a time, given as such or as an age. Raises `typer.BadParameter`."""
    try:
        if age := _AGE.fullmatch(text):
            return datetime.now(UTC) - timedelta(seconds=int(age[1]) * SECONDS_OF[age[2]])
        given = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as exc:
        example = "give a time such as 2026-01-01T00:00:00Z, or an age such as 2h or 7d"
        raise typer.BadParameter(f"{text!r}: {example}") from exc
    return given if given.tzinfo else given.replace(tzinfo=UTC)


_STATUSES = ", ".join(it for it in PageStatus if it in LISTED_STATUSES)


def listed_status(text: str) -> PageStatus:
    """Return a status that pages of the list have. Raises `typer.BadParameter`."""
    found = next((it for it in LISTED_STATUSES if it == text.upper()), None)
    if found is None:
        raise typer.BadParameter(f"{text!r}: give one of {_STATUSES}")
    return found


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="WORD...", help="Each has to begin a word of the title or a part of the host"
    ),
]
Statuses = Annotated[
    list[PageStatus] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        parser=listed_status,
        help=f"Only pages of this status; may be given more than once: {_STATUSES}",
    ),
]
Host = Annotated[str | None, typer.Option("--host", help="Only pages of this host")]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        "--updated-since",
        metavar="TIME",
        parser=moment,
        help="Only pages that have changed since then: 2026-01-01T00:00:00Z, or an age such as 2h "
        "or 7d (units: s, m, h, d)",
    ),
]
Text = Annotated[str, typer.Option("--q", help="The same as WORD..., in one text")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many pages to list")]
All = Annotated[bool, typer.Option("--all", help="List all, whatever --limit says")]


def list_pages(  # noqa: PLR0913 - each is an option of its own
    words: Words = None,
    *,
    status: Statuses = None,
    host: Host = None,
    q: Text = "",
    since: Since = None,
    limit: Limit = 50,
    every: All = False,
    api: ApiUrl = DEFAULT_API,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """List the pages of the inventory by when they were first asked for, the latest first.

    Of each page the table has status, HTTP status, size, how long ago it was first asked for, and
    its title, or its URL if it has none. With --json each page is one line, with all that the API
    lists of it.

    Exit code: 0, or 2 if the API does not answer or refuses the call.
    """
    filters: dict[str, str | list[str]] = {"status": [*(status or ())]}
    given = {
        "host": host,
        "q": " ".join([*(words or ()), q]).strip(),
        "updated_since": since and since.isoformat(),
    }
    filters |= {name: value for name, value in given.items() if value}
    client = ApiClient(api, TIMEOUT_SECONDS, key=key)
    run(_list(client, filters, math.inf if every else limit, as_json=as_json))


async def _list(client: ApiClient, filters: Query, limit: float, *, as_json: bool) -> None:
    async with aclosing(client), aclosing(client.list_pages(filters, limit)) as lists:
        await (_print_lines(lists) if as_json else _print_tables(lists))


async def _print_lines(lists: AsyncIterable[Answer]) -> None:
    async for listed in lists:
        for page in listed["items"]:
            print_json(page)


async def _print_tables(lists: AsyncIterable[Answer]) -> None:
    """Print each part of the list as soon as it is there. All parts look like one table."""
    headings, has_more = True, False
    async for listed in lists:
        show_list(listed["items"], datetime.now(UTC), headings=headings)
        headings, has_more = False, listed["next"] is not None
    if has_more:
        typer.echo("There are more pages: give --limit or --all.", err=True)
