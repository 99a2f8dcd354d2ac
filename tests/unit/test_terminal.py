"""What `pagemeta` prints: help, and where the output is not in UTF-8 or nobody reads any more."""

import json
import os
import re
import sys
from io import BytesIO, TextIOWrapper
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from app.cli.main import app, prepare
from app.cli.terminal import EXIT_BAD_RESULT, EXIT_COULD_NOT_RUN, console, print_json


def output_in(encoding: str, monkeypatch: pytest.MonkeyPatch) -> BytesIO:
    """Put an output in this encoding in the place of the standard output."""
    printed = BytesIO()
    monkeypatch.setattr("sys.stdout", TextIOWrapper(printed, encoding=encoding))
    monkeypatch.setattr("sys.stderr", TextIOWrapper(BytesIO(), encoding=encoding))
    return printed


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_keeps_every_character(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = output_in(encoding, monkeypatch)
    print_json({"title": "na\xefve \u4e2d \U0001f600"})
    text = output.getvalue().decode(encoding)
    assert json.loads(text) == {"title": "na\xefve \u4e2d \U0001f600"}


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", "?"), ("utf-8", "\u4e2d")])
def test_a_character_that_a_terminal_does_not_know_is_a_question_mark(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = output_in(encoding, monkeypatch)
    prepare()
    sys.stdout.write("\u4e2d")
    sys.stdout.flush()
    assert output.getvalue().decode(encoding) == shown


def test_json_that_nobody_reads_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as output:
        monkeypatch.setattr("sys.stdout", output)
        monkeypatch.setattr(console, "quiet", False)
        with pytest.raises(SystemExit) as end:
            print_json({})
    assert end.value.code == EXIT_BAD_RESULT


@pytest.mark.parametrize("command", ["submit", "list", "migrate"])
def test_a_paragraph_of_a_help_text_fills_its_lines(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"}).stdout
    paragraphs = re.split(r"\n\s*\n", shown.partition("╭")[0])
    for lines in (paragraph.strip().splitlines() for paragraph in paragraphs):
        for line, following in pairwise(it.strip() for it in lines):
            assert len(line) + len(following.split()[0]) >= 77


@pytest.mark.parametrize("address", ["localhost", "localhost:6577", "ftp://localhost"])
def test_an_address_that_cannot_be_one_of_the_api_is_refused(address: str) -> None:
    ran = CliRunner().invoke(app, ["get", "https://example.com/", "--api", address])
    assert ran.exit_code == EXIT_COULD_NOT_RUN
    assert "begins with http:// or" in ran.stderr
