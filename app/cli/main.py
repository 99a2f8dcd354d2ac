"""`python -m app.cli.main`: what an operator does by hand."""

import typer

from app.cli import dead_letters

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look after a running page inventory.",
)
app.add_typer(dead_letters.app, name="dead-letters")

if __name__ == "__main__":
    app()
