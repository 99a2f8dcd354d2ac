"""Which tests run in one process of pytest-xdist, since they share what takes seconds to start.

The mark `xdist_group` is meant for this, but has no effect with pytest 9.2 and pytest-xdist 3.8
(https://github.com/pytest-dev/pytest-xdist/issues/1386): each process starts everything anew.
"""

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    "tests/browser/",
    "tests/integration/test_api_bounds.py",
    "tests/integration/test_command_line.py",
    "tests/integration/test_contract.py",
    "tests/integration/test_dead_letters.py",
    "tests/integration/test_demo.py",
    "tests/integration/test_fresh_results.py",
    "tests/integration/test_reading.py",
    "tests/integration/test_reextract.py",
    "tests/integration/test_waiting_for_pages.py",
)
"""Folders and files whose tests share a Chromium or processes of the service, or cannot run side by
side: there is one demo at a time in a folder."""


def place_of(nodeid: str) -> str:
    """Return the place in `TOGETHER` that a test belongs to, else its own name."""
    return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


class KeepingTogether(LoadScopeScheduling):  # type: ignore[misc]  # published without types
    """Hands out single tests, but those of one place as one. The largest places go first."""

    def _split_scope(self, nodeid: str) -> str:  # pytest-xdist means this to be overridden
        return place_of(nodeid)
