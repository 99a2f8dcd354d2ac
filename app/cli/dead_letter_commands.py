"""`dead-letters list|show|send-back|discard`: what to do with messages nobody could handle."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Column, Table

from app.assembly import topology_of
from app.broker.connection import broker_urls
from app.broker.dead_letters import DeadLetter, DeadLetterBox, open_box
from app.cli.terminal import NOT_AS_WISHED, Json, console, print_json, run
from app.runtime.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Messages that could not be handled.")
Letters = Annotated[list[str] | None, typer.Argument(help="Ids, as `list` shows them")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter there is")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]


@app.command("list")
def list_letters(*, as_json: Json = False) -> None:
    """Show every dead letter on a line."""
    letters = run(_read())
    if as_json:
        print_json([_as_json(letter) for letter in letters])
        return
    # An id is there to be copied, so it is shown whole however narrow the terminal is.
    longest = max((len(letter.letter_id) for letter in letters), default=0)
    whole_id, one_line = Column("id", min_width=longest), Column("body", no_wrap=True)
    table = Table(whole_id, "reason", "from", "died at", one_line, box=None)
    for letter in letters:
        died_at = letter.died_at.isoformat() if letter.died_at else "unknown"
        table.add_row(letter.letter_id, letter.reason, letter.came_from, died_at, _start(letter))
    console.print(table)
    console.print(f"{len(letters)} dead letters")


@app.command()
def show(letter_id: str, *, as_json: Json = False) -> None:
    """Show one dead letter whole."""
    found = [letter for letter in run(_read()) if letter.letter_id == letter_id]
    if not found:
        _none_found()
    if as_json:
        print_json(_as_json(found[0]))
        return
    headers = json.dumps(found[0].headers, indent=2, default=str)
    console.print(headers, found[0].body.decode(errors="backslashreplace"), sep="\n")


@app.command("send-back")
def send_back(ids: Letters = None, *, everything: All = False, as_json: Json = False) -> None:
    """Put dead letters into the request queue again."""
    count = run(_settle("send_back", _chosen(ids, everything=everything)))
    _report("sent back", count, as_json=as_json)


@app.command()
def discard(
    ids: Letters = None, *, everything: All = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Delete dead letters for good; asks first."""
    chosen = _chosen(ids, everything=everything)
    what = "every dead letter" if chosen is None else f"{len(chosen)} dead letters"
    if not yes:
        typer.confirm(f"Delete {what} for good?", abort=True)
    _report("discarded", run(_settle("discard", chosen)), as_json=as_json)


async def _read() -> list[DeadLetter]:
    async with _box() as box:
        return [letter async for letter, _ in box.letters()]


async def _settle(action: str, ids: set[str] | None) -> int:
    settled = 0
    async with _box() as box:
        async for letter, message in box.letters():
            if ids is None or letter.letter_id in ids:
                await getattr(box, action)(message)
                settled += 1
    return settled


@asynccontextmanager
async def _box() -> AsyncIterator[DeadLetterBox]:
    settings = load_settings()
    topology = topology_of(settings)
    url = broker_urls(settings.broker_url)[0]
    timeout_seconds = settings.broker_publish_timeout_seconds
    async with open_box(url, topology, timeout_seconds=timeout_seconds) as box:
        yield box


def _chosen(ids: list[str] | None, *, everything: bool) -> set[str] | None:
    """Return the ids to act on, None for all of them."""
    if everything == bool(ids):
        raise typer.BadParameter("name the letters by their ids, or say --all")
    return None if everything else set(ids or ())


def _report(done: str, count: int, *, as_json: bool) -> None:
    if not count:
        _none_found()
    if as_json:
        print_json({done.replace(" ", "_"): count})
    else:
        console.print(f"{count} dead letters {done}")


def _none_found() -> NoReturn:
    typer.echo("no such dead letter; `list` shows what there is", err=True)
    raise typer.Exit(NOT_AS_WISHED)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    body = letter.body.decode(errors="backslashreplace")
    return {**asdict(letter), "body": body}


def _start(letter: DeadLetter) -> str:
    return letter.body[:60].decode(errors="backslashreplace")
