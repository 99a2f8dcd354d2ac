"""Processes whose wall clocks differ, by libfaketime."""

from dev.servers import ServerMissing, find_faketime


def a_clock(skew: str) -> dict[str, str]:
    """Return the environment of a process whose wall clock is ahead (`+`) or behind (`-`).

    With `@` it begins at a time, such as `@2026-01-01 12:00:00`.
    """
    library = find_faketime()
    if library is None:
        raise ServerMissing("faketime is not installed here; on Debian `apt-get install faketime`")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": skew,
        # Waits and timeouts are measured by the monotonic clock, which no skew changes.
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
