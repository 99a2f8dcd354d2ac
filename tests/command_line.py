"""`pagemeta` run in the test's own process, which saves starting Python for each command."""

from contextlib import chdir

from typer.testing import CliRunner, Result

from app.cli.main import app
from app.cli.terminal import console
from tests.service import Service

COLUMNS = 250
"""The width of the terminal: enough for every table."""


def pagemeta(service: Service, *arguments: str, typed: str = "", **environment: str) -> Result:
    """Run a command with the settings of the service, and with `environment` on top of them.

    `typed` is what the standard input has. An exception that the command does not turn into an
    exit code fails the test.
    """
    # rich reads the variable COLUMNS when `console` is made, so it is too late to set that here.
    console.width = COLUMNS
    # Commands read a `.env` in the current folder: the service's own folder has none.
    with chdir(service.folder):
        return CliRunner().invoke(
            app,
            arguments,
            input=typed,
            env={**service.environment, **environment},
            catch_exceptions=False,
        )
