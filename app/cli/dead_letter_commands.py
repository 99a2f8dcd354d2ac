"""`dead-letters list|show|send-back|discard`: the messages that could not be handled.

They may hold anything: none is read as markup, nor can it write to the terminal.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, NoReturn

import typer
from aio_pika.abc import AbstractIncomingMessage
from rich.table import Column, Table
from rich.text import Text

from app.assembly import topology_of
from app.broker.dead_letters import DeadLetter, DeadLetterQueue, open_dead_letters
from app.cli.showing import one_line, visible
from app.cli.terminal import EXIT_BAD_RESULT, Json, confirm, console, print_json, read_settings, run

app = typer.Typer(
    no_args_is_help=True, help="List, send back or delete messages that could not be handled."
)
Ids = Annotated[list[str] | None, typer.Argument(help="Ids, as `list` shows them")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter there is")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]

Action = Callable[[DeadLetterQueue, AbstractIncomingMessage], Awaitable[None]]


@app.command("list")
def list_letters(*, as_json: Json = False) -> None:
    """Show each dead letter on one line.

    Exit code: 0, or 2 if the broker does not answer or has no such queue.
    """
    letters = run(_read())
    if as_json:
        print_json([_as_json(letter) for letter in letters])
        return
    # An id is copied into the next command, so it is shown whole on any terminal.
    longest = max((len(letter.letter_id) for letter in letters), default=0)
    whole_id, beginning = Column("id", min_width=longest), Column("body", no_wrap=True)
    table = Table(whole_id, "reason", "from", "died at", beginning, box=None)
    for letter in letters:
        died_at = letter.died_at.isoformat() if letter.died_at else "unknown"
        start = letter.body[:60].decode(errors="backslashreplace")
        cells = (letter.letter_id, letter.reason, letter.came_from, died_at, start)
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    console.print(table)
    console.print(f"{len(letters)} dead letters")


@app.command()
def show(letter_id: str, *, as_json: Json = False) -> None:
    """Show all of one dead letter: its headers and its body.

    Exit code: 0, 1 if there is no dead letter with this id, 2 if the broker does not answer.
    """
    found = [letter for letter in run(_read()) if letter.letter_id == letter_id]
    if not found:
        _none_found()
    if as_json:
        print_json(_as_json(found[0]))
        return
    headers = json.dumps(found[0].headers, indent=2, default=str)
    typer.echo(visible(headers))
    typer.echo(visible(found[0].body.decode(errors="backslashreplace")))


@app.command("send-back")
def send_back(ids: Ids = None, *, everything: All = False, as_json: Json = False) -> None:
    """Move dead letters back to the request queue.

    Exit code: 0 if one was moved, 1 if none was found, 2 if the request queue refused one or the
    broker does not answer. What was not moved stays a dead letter.
    """
    count = run(_settle(DeadLetterQueue.send_back, _chosen(ids, everything=everything)))
    _report("sent back", count, as_json=as_json)


@app.command()
def discard(
    ids: Ids = None, *, everything: All = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Delete dead letters for good, after asking.

    Exit code: 0 if one was deleted, 1 if none was found or the answer was no, 2 if the broker does
    not answer.
    """
    chosen = _chosen(ids, everything=everything)
    what = "every dead letter" if chosen is None else f"{len(chosen)} dead letters"
    if not yes:
        confirm(f"Delete {what} for good?", as_json=as_json)
    _report("discarded", run(_settle(DeadLetterQueue.discard, chosen)), as_json=as_json)


async def _read() -> list[DeadLetter]:
    async with _dead_letters() as queue:
        return [letter async for letter, _ in queue.letters()]


async def _settle(action: Action, ids: set[str] | None) -> int:
    """Do the action with each dead letter of these ids (None: with all); return how many."""
    settled = 0
    async with _dead_letters() as queue:
        async for letter, message in queue.letters():
            if ids is None or letter.letter_id in ids:
                await action(queue, message)
                settled += 1
    return settled


@asynccontextmanager
async def _dead_letters() -> AsyncIterator[DeadLetterQueue]:
    settings = read_settings()
    topology = topology_of(settings)
    timeout_seconds = settings.broker_publish_timeout_seconds
    async with open_dead_letters(
        settings.broker_url, topology, timeout_seconds=timeout_seconds
    ) as queue:
        yield queue


def _chosen(ids: list[str] | None, *, everything: bool) -> set[str] | None:
    """Return the ids to act on, None for all of them."""
    if everything == bool(ids):
        raise typer.BadParameter("give the ids of dead letters, or --all")
    return None if everything else set(ids or ())


def _report(done: str, count: int, *, as_json: bool) -> None:
    if not count:
        _none_found()
    if as_json:
        print_json({done.replace(" ", "_"): count})
    else:
        console.print(f"{count} dead letters {done}")


def _none_found() -> NoReturn:
    typer.echo("no such dead letter; `list` shows those there are", err=True)
    raise typer.Exit(EXIT_BAD_RESULT)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {**asdict(letter), "body": letter.body.decode(errors="backslashreplace")}
