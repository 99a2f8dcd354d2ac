"""`pagemeta`, or `python -m app.cli.main`: what an operator does by hand.

Every command ends with one of the exit codes in `app/cli/terminal.py`: 0 success, 1 failure (a page
failed, a queue is missing), 2 the command could not run (wrong usage or settings, a server that
does not answer), 130 interrupted by Ctrl-C.
"""

import logging
import sys
from io import TextIOWrapper

import typer

from app.cli import dead_letter_commands, keys
from app.cli.doctor import doctor
from app.cli.event_commands import events, republish
from app.cli.listing import list_pages
from app.cli.migrate import migrate
from app.cli.page_commands import delete, get, submit
from app.cli.queue_commands import queues, watch
from app.cli.reextract import reextract

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # any other mode keeps the line breaks of a docstring
    epilog="Exit codes: 0 success, 1 failure, 2 the command could not run, 130 interrupted.",
)


@app.callback()
def prepare() -> None:
    """Request pages, read results, and look after the service that collects them."""
    # Drivers log failed connections, and the commands report those themselves.
    logging.basicConfig(level=logging.CRITICAL)
    # A terminal that is not in UTF-8 shows a question mark for what it does not know.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


for command in (
    *(submit, get, delete, watch, queues, events, republish),
    *(migrate, reextract, doctor),
):
    app.command()(command)
app.command("list")(list_pages)
app.add_typer(dead_letter_commands.app, name="dead-letters")
app.add_typer(keys.app, name="keys")

if __name__ == "__main__":
    app()
