"""`pagemeta`, or `python -m app.cli.main`: what an operator does by hand.

Exit codes: 0 all is as wished, 1 it is not, 2 the command could not do its work.
"""

import logging

import typer

from app.cli import dead_letter_commands
from app.cli.doctor import doctor
from app.cli.page_commands import get, submit
from app.cli.queue_commands import queues, watch

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def prepare() -> None:
    """Ask for pages, and look after the service that collects them."""
    # Drivers warn of what the commands say themselves.
    logging.basicConfig(level=logging.CRITICAL)


for command in (submit, get, watch, queues, doctor):
    app.command()(command)
app.add_typer(dead_letter_commands.app, name="dead-letters")

if __name__ == "__main__":
    app()
