"""How `pagemeta dead-letters` shows messages, without a broker."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from app.broker.dead_letters import DeadLetter
from app.cli import dead_letter_commands
from app.cli.terminal import console

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


def shown(*arguments: str) -> str:
    return CliRunner().invoke(dead_letter_commands.app, arguments, catch_exceptions=False).stdout


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
