"""The table of `just sabotage` names code and tests that exist."""

import pytest

from dev.stack import ROOT
from tests.sabotage import SABOTAGES, Sabotage

each_sabotage = pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda each: each.promise)


@each_sabotage
def test_the_guard_that_is_broken_stands_in_the_code_once(sabotage: Sabotage) -> None:
    assert (ROOT / sabotage.file).read_text().count(sabotage.code) == 1


@each_sabotage
def test_the_test_that_has_to_notice_exists(sabotage: Sabotage) -> None:
    file, _, name = sabotage.test.partition("::")
    assert f"def {name}" in (ROOT / "tests" / sabotage.folder / file).read_text()
