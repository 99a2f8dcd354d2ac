"""`events` and `republish`: follow what is told of pages, and tell it again."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from app.assembly import topology_of
from app.broker.event_stream import EventStream, open_events
from app.broker.events import kind_in
from app.cli.listing import moment
from app.cli.showing import one_line
from app.cli.terminal import (
    EXIT_BAD_RESULT,
    Json,
    console,
    opened_pages,
    print_json,
    progress,
    read_settings,
    run,
)
from app.models import EventKind
from app.store.outbox import events_since

Kinds = Annotated[
    list[EventKind] | None,
    typer.Option("--kind", help="Only events of this kind; may be given more than once"),
]
Since = Annotated[
    datetime,
    typer.Option(
        "--since",
        metavar="TIME",
        parser=moment,
        help="The time of the first event: 2026-01-01T00:00:00Z, or an age such as 2h or 7d",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be published")]


def events(*, kind: Kinds = None, as_json: Json = False) -> None:
    """Show the events of pages as they are published, one on a line, until Ctrl-C.

    What was published before is not shown. No listener loses an event to this command: its queue is
    its own, and is gone when it ends.

    Exit code: 130 after Ctrl-C, 2 if the broker does not answer or has no such exchange.
    """
    run(_follow(kind or [], as_json=as_json))


def republish(*, since: Since, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Publish the events of stored outcomes again, each with the id it had.

    A record keeps the events of its latest outcomes, and that of a deleted page is kept for a
    while. Every listener gets these events, not only yours, and those that heed the ids ignore what
    they have had. If it is interrupted, run it again.

    Exit code: 0, 1 if the queue of a listener refused some, 2 if broker or database does not
    answer.
    """
    count, refused = run(_republish(since, dry_run=dry_run))
    if as_json:
        print_json({"events" if dry_run else "published": count, "refused": refused})
    else:
        console.print(f"{count} events {'to publish' if dry_run else 'published'}")
    if refused:
        text = f"{refused} of them were refused by the full queue of a listener; others have them"
        typer.echo(text, err=True)
        raise typer.Exit(EXIT_BAD_RESULT)


@asynccontextmanager
async def _opened_events() -> AsyncIterator[EventStream]:
    settings = read_settings()
    timeout_seconds = settings.broker_publish_timeout_seconds
    async with open_events(
        settings.broker_url, topology_of(settings), timeout_seconds=timeout_seconds
    ) as stream:
        yield stream


async def _follow(kinds: list[EventKind], *, as_json: bool) -> None:
    async with _opened_events() as stream, aclosing(stream.follow(kinds)) as followed:
        async for event in followed:
            if as_json:
                print_json(event)
            else:
                console.print(Text(in_words(event)), soft_wrap=True)


def in_words(event: dict[str, Any]) -> str:
    """Return one line: when, what, which page, and its title or the reason."""
    data = event["data"]
    detail = (data["error"] or {}).get("message") or data["title"] or ""
    kind = kind_in(event["type"])
    return f"{event['time']} {kind:9} {data['url']} {one_line(detail)}".rstrip()


async def _republish(since: datetime, *, dry_run: bool) -> tuple[int, int]:
    """Return how many events there are, and how many of them a listener's queue refused."""
    count = refused = 0
    with opened_pages() as pages, progress() as shown:
        task = shown.add_task("events", total=None)
        async with _opened_events() as stream:
            # The database is asked in between, while the connection to the broker waits. It asks
            # for little at once, so heartbeats are not missed.
            for event in events_since(pages, since):
                refused += not (dry_run or await stream.publish(event))
                count += 1
                shown.advance(task)
    return count, refused
