"""What the commands share: exit codes, `--json`, and how an error is shown."""

import asyncio
import codecs
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pymongo.collection import Collection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.errors import InventoryError
from app.runtime.settings import Settings, load_settings
from app.store.blocking import keys_of, pages_of
from app.store.claims import Bson

T = TypeVar("T")

EXIT_BAD_RESULT = 1
"""The command ran and found a failure: a page failed, a queue is missing."""

EXIT_COULD_NOT_RUN = 2
"""The command could not do its work: wrong usage or settings, a server that does not answer."""

EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells number it: 128 and the number of SIGINT."""

console = Console(highlight=False)
progress_console = Console(stderr=True)

UNFOLDED_COLUMNS = 10_000

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts")]


def _checked_address(address: str) -> str:
    if not address.lower().startswith(("http://", "https://")):
        raise typer.BadParameter("give an address that begins with http:// or https://")
    return address


ApiUrl = Annotated[str, typer.Option("--api", callback=_checked_address, help="Address of the API")]


def _checked_key(key: str | None) -> str | None:
    # HTTP headers carry nothing else.
    if key is not None and not (key.isascii() and key.isprintable()):
        raise typer.BadParameter("a key is made of printable ASCII characters")
    return key


Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="PAGEMETA_KEY",
        callback=_checked_key,
        help="The API key, where the API asks for one; other users can see it in a command line",
    ),
]
DEFAULT_API = "http://127.0.0.1:6577"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; an `InventoryError` ends the program with its text."""
    with reported_errors():
        return asyncio.run(work)


@contextmanager
def reported_errors() -> Iterator[None]:
    """End the program on an `InventoryError` with its text, and on Ctrl-C."""
    try:
        yield
    except InventoryError as exc:
        fail(str(exc))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def confirm(question: str, *, as_json: bool) -> None:
    """Ask, and end the program unless the answer is yes.

    With --json the question goes to the error output, as the standard output has JSON alone.
    """
    try:
        typer.confirm(question, abort=True, err=as_json)
    except typer.Abort as exc:
        # The same is raised for a "no" and for Ctrl-C.
        if isinstance(exc.__context__, KeyboardInterrupt):
            raise typer.Exit(EXIT_INTERRUPTED) from None
        raise


def progress() -> Progress:
    """Return a progress bar on the error output, which shows nothing where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        console=progress_console,
        disable=not progress_console.is_terminal,
    )


def read_settings() -> Settings:
    """Return the settings; invalid ones end the program with a text that names them."""
    try:
        return load_settings()
    except SystemExit as exc:
        fail(str(exc))


Opened = AbstractContextManager[Collection[Bson]]
"""A collection of the database that the settings name. Raises `DatabaseUnreachable`."""


def opened_pages() -> Opened:
    """Return the collection of pages."""
    return _opened(pages_of)


def opened_keys() -> Opened:
    """Return the collection of API keys."""
    return _opened(keys_of)


def _opened(collection_of: Callable[..., Opened]) -> Opened:
    settings = read_settings()
    return collection_of(
        settings.database_url,
        settings.database_name,
        timeout_seconds=settings.database_timeout_seconds,
    )


def fail(text: str) -> NoReturn:
    """Show an error and end the program with `EXIT_COULD_NOT_RUN`."""
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(EXIT_COULD_NOT_RUN)


def print_json(value: object) -> None:
    """Print one value on one line, and flush, so that a pipe gets it at once.

    Where the output is not in UTF-8, characters beyond ASCII are escaped.
    """
    in_ascii = codecs.lookup(sys.stdout.encoding).name != "utf-8"
    try:
        sys.stdout.write(json.dumps(value, default=str, ensure_ascii=in_ascii) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # A command with a connection to a server would take this for the loss of that connection.
        console.on_broken_pipe()


def print_table(table: Table) -> None:
    """Print a table: folded to fit a terminal, and with each row on one line for anything else."""
    unfolding = Console(width=UNFOLDED_COLUMNS, highlight=False)
    (console if console.is_terminal else unfolding).print(table)
