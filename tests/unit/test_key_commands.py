"""What `pagemeta keys` does not take, without a database."""

import pytest
from typer.testing import CliRunner

from app.cli.keys import app
from app.cli.terminal import EXIT_COULD_NOT_RUN


@pytest.mark.parametrize("hours", ["-1", "99999999", "inf"])
def test_a_former_secret_is_good_until_a_time_that_can_be_read_again(hours: str) -> None:
    ran = CliRunner().invoke(app, ["rotate", "a-name", "--keep-hours", hours])
    assert ran.exit_code == EXIT_COULD_NOT_RUN
    assert "--keep-hours" in ran.stderr


def test_a_limit_is_a_number_that_the_database_can_hold() -> None:
    limit = ["--requests-per-minute", "9" * 20]
    ran = CliRunner().invoke(app, ["create", "a-name", "--scope", "read", *limit])
    assert ran.exit_code == EXIT_COULD_NOT_RUN
    assert "--requests-per-minute" in ran.stderr
