"""How `pagemeta dead-letters` shows messages and asks before it deletes, without a broker."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner, Result

from app.broker.dead_letters import DeadLetter
from app.cli import dead_letter_commands
from app.cli.terminal import EXIT_INTERRUPTED, confirm, console

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def letter(monkeypatch: pytest.MonkeyPatch) -> DeadLetter:
    """The one message that there is. Its texts are anybody's."""
    body = b'{"a": "[/] [red]text[/red] \x1b[2J"}'
    found = DeadLetter("an-id", "rejected", "q.requests", NOON, body, {"x": "[/]"})

    async def read() -> list[DeadLetter]:
        return [found]

    monkeypatch.setattr(dead_letter_commands, "_read", read)
    monkeypatch.setattr(console, "width", 200)
    return found


def run(*arguments: str, typed: str = "") -> Result:
    app = dead_letter_commands.app
    return CliRunner().invoke(app, arguments, input=typed, catch_exceptions=False)


def shown(*arguments: str) -> str:
    return run(*arguments).stdout


def test_a_list_has_the_texts_of_messages_as_they_are_without_control_characters(
    letter: DeadLetter,
) -> None:
    line = shown("list").splitlines()[1]
    assert line.split()[:3] == [letter.letter_id, "rejected", "q.requests"]
    assert line.rstrip().endswith('{"a": "[/] [red]text[/red] [2J"}')


def test_all_of_a_message_is_shown_as_it_is_without_control_characters(letter: DeadLetter) -> None:
    printed = shown("show", letter.letter_id)
    assert printed == '{\n  "x": "[/]"\n}\n{"a": "[/] [red]text[/red] \ufffd[2J"}\n'


def test_scripts_get_a_message_with_every_character(letter: DeadLetter) -> None:
    assert json.loads(shown("show", letter.letter_id, "--json"))["body"] == letter.body.decode()


@pytest.fixture
def discarded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was discarded: nothing as long as the answer is not yes."""
    settled: list[object] = []

    async def settle(_action: object, ids: Sequence[str]) -> int:
        settled.extend(ids)
        return len(ids)

    monkeypatch.setattr(dead_letter_commands, "_settle", settle)
    return settled


def test_a_script_gets_the_question_on_the_error_output(discarded: list[object]) -> None:
    result = run("discard", "an-id", "--json", typed="y\n")
    assert "for good?" in result.stderr
    assert "for good?" not in result.stdout
    assert (result.exit_code, discarded) == (0, ["an-id"])


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_any_answer_but_yes_ends_the_command(typed: str, discarded: list[object]) -> None:
    assert run("discard", "an-id", typed=typed).exit_code == 1
    assert not discarded


class Interrupted:
    """A terminal at which somebody presses Ctrl-C."""

    def readline(self) -> str:
        raise KeyboardInterrupt


def test_ctrl_c_at_a_question_is_told_from_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Interrupted())
    with pytest.raises(typer.Exit) as caught:
        confirm("Delete it?", as_json=False)
    assert caught.value.exit_code == EXIT_INTERRUPTED
