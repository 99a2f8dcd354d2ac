"""`keys`: make, list, rotate and revoke the API keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from app.cli.terminal import Json, opened_keys, print_json, print_table, reported_errors
from app.keys import Scope
from app.store.keys import IssuedKey, KeyRegistry, KeyState

SECONDS_AN_HOUR = 3600

MAX_NAME_LENGTH = 100

MAX_KEEP_HOURS = 10 * 365 * 24
"""Ten years. A time after the year 9999 could be written to the database, but not be read again."""

MAX_PER_MINUTE = 1_000_000_000
"""MongoDB could not store a number of any size."""

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke the API keys.")


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise typer.BadParameter(f"1 to {MAX_NAME_LENGTH} characters that can be printed")
    return name


Name = Annotated[str, typer.Argument(callback=_checked_name, help="Whose key it is")]
NameOrId = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the key")]
Scopes = Annotated[
    list[Scope], typer.Option("--scope", help="What it permits; give it once for each scope")
]
PerMinute = Annotated[
    int,
    typer.Option(
        "--requests-per-minute",
        min=0,
        max=MAX_PER_MINUTE,
        help="Most requests to one API process; 0: any number",
    ),
]
Once = Annotated[
    bool, typer.Option("--once", help="Do nothing if there is, or was, a key of this name")
]
KeepHours = Annotated[
    float,
    typer.Option(
        "--keep-hours",
        min=0,
        max=MAX_KEEP_HOURS,
        help="How long the former secret is good too; 0: no more",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Revoked keys too")]


@app.command()
def create(
    name: Name,
    *,
    scopes: Scopes,
    requests_per_minute: PerMinute = 600,
    once: Once = False,
    as_json: Json = False,
) -> None:
    """Make a key and print it. It is shown now and never again: only a hash of it is kept.

    Exit code: 0, or 2 if another key has the name or the database does not answer.
    """
    with _registry() as keys:
        if once and keys.existed(name):
            typer.echo(f"There is, or was, a key of the name {name}: none is made.", err=True)
            return
        _show_issued(keys.create(name, scopes, requests_per_minute), as_json=as_json)


@app.command("list")
def list_keys(*, revoked: All = False, as_json: Json = False) -> None:
    """Show the keys: what they permit, when they were last used, and how often. No secrets.

    Last use and count are some seconds old. Exit code: 0, or 2 if the database does not answer.
    """
    with _registry() as keys:
        shown = [it for it in keys.states() if it.active or revoked]
    if as_json:
        print_json([_as_json(it) for it in shown])
    else:
        print_table(_table(shown))


@app.command()
def rotate(name: NameOrId, *, keep_hours: KeepHours = 24, as_json: Json = False) -> None:
    """Give a key another secret, and print it. Its id, name, scopes and limit stay.

    The former secret is good for a day more, or for --keep-hours. For a key that has leaked take
    --keep-hours 0. Exit code: 0, or 2 if there is no such key or the database does not answer.
    """
    with _registry() as keys:
        issued = keys.rotate(name, keep_former_seconds=keep_hours * SECONDS_AN_HOUR)
    _show_issued(issued, as_json=as_json)


@app.command()
def revoke(name: NameOrId, *, as_json: Json = False) -> None:
    """End a key for good. Every API process refuses it within 10 seconds.

    Exit code: 0, or 2 if there is no such key or the database does not answer.
    """
    with _registry() as keys:
        state = keys.revoke(name)
    if as_json:
        print_json(_as_json(state))
    else:
        typer.echo(f"{state.name} ({state.id}) is revoked.")


@contextmanager
def _registry() -> Iterator[KeyRegistry]:
    with reported_errors(), opened_keys() as collection:
        yield KeyRegistry(collection)


def _show_issued(issued: IssuedKey, *, as_json: bool) -> None:
    """Print the key alone to the standard output, so that a script can take it."""
    if as_json:
        print_json(asdict(issued))
        return
    typer.echo(f"Key {issued.id} of {issued.name}, shown only now:", err=True)
    typer.echo(issued.key)


def _as_json(state: KeyState) -> dict[str, object]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(state).items()
    }


def _table(states: list[KeyState]) -> Table:
    table = Table("name", "id", "scopes", box=None)
    for heading in ("a minute", "uses"):
        table.add_column(heading, justify="right")
    for heading in ("last used", "created", "state"):
        table.add_column(heading)
    for it in states:
        limit = str(it.requests_per_minute or "any")
        times = (_minute(it.last_used_at), _minute(it.created_at))
        table.add_row(
            *(Text(it.name), it.id, " ".join(it.scopes), limit, str(it.uses)), *times, _state(it)
        )
    return table


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"


def _state(key: KeyState) -> str:
    if not key.active:
        return f"revoked {_minute(key.revoked_at)}"
    if key.former_secret_until:
        return f"former secret until {_minute(key.former_secret_until)}"
    return "active"
