"""Tests that share processes of the service run in one process of pytest-xdist."""

import re

import pytest

from dev.stack import ROOT
from tests.schedule import TOGETHER, place_of

SHARING = [
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("tests/integration/**/test_*.py")
    if re.search(r"\b(shared_service|deploy):", path.read_text())
]


@pytest.mark.parametrize("place", TOGETHER)
def test_what_is_kept_together_exists(place: str) -> None:
    assert (ROOT / place).exists()


@pytest.mark.parametrize("file", sorted([*SHARING, "tests/browser/test_pages.py"]))
def test_tests_that_share_what_they_start_are_handed_out_together(file: str) -> None:
    assert place_of(f"{file}::test_one") == place_of(f"{file}::test_two[/asyncapi]")


def test_other_tests_are_handed_out_one_by_one() -> None:
    one, other = (f"tests/integration/test_shutdown.py::test_{name}" for name in ("one", "two"))
    assert place_of(one) != place_of(other)
