"""How `pagemeta doctor` shows what it has found."""

import pytest

from app.cli import doctor
from app.cli.doctor import Finding, Verdict
from app.cli.terminal import console


def test_what_was_found_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)
    found = "http://[fd00::1]/ is not ready: <script>[/x/]</script>"
    doctor._print([Finding("api", Verdict.PROBLEM, found, "see its log")])  # noqa: SLF001 (the whole command asks servers)
    assert found in capsys.readouterr().out
