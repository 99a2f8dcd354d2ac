"""What the commands have in common: exit codes, `--json`, and how they say what went wrong."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console

from app.errors import InventoryError

T = TypeVar("T")

NOT_AS_WISHED = 1
"""The command worked, and what it found is not what the caller hoped for."""

CANNOT = 2
"""The command could not do its work: wrong usage, wrong settings, a server that is away."""

INTERRUPTED = 130

console = Console(highlight=False)
progress_console = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts")]
ApiUrl = Annotated[str, typer.Option("--api", help="Where the API listens")]
DEFAULT_API = "http://127.0.0.1:6577"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; an error of ours ends the program with its text."""
    try:
        return asyncio.run(work)
    except InventoryError as exc:
        fail(str(exc))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(text: str) -> NoReturn:
    """End the program because it can't do its work."""
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(CANNOT)


def print_json(value: object) -> None:
    """Print one value on one line, at once."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False) + "\n")
    sys.stdout.flush()
