"""CPU time, which tells what one page or request costs. It is steadier than a rate."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.servers import Server

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Rate:
    """How many a second, and the milliseconds of CPU time that each of them cost."""

    per_second: float
    cpu_ms: float


class CpuTime:
    """The CPU time that servers use while the block lasts, by the names they have in a table.

    Several servers of one name are counted together.
    """

    def __init__(self, servers: Mapping[str, Sequence[Server]]) -> None:
        self._servers = servers

    def __enter__(self) -> Self:
        self._before = self._seconds()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._after = self._seconds()

    def ms_each(self, count: int) -> dict[str, float]:
        """Return the milliseconds for each of `count` pages or requests, by name."""
        used = {name: after - self._before[name] for name, after in self._after.items()}
        return {name: seconds * 1000 / count for name, seconds in used.items()}

    def _seconds(self) -> dict[str, float]:
        return {
            name: sum(group_seconds(server.pid) for server in servers)
            for name, servers in self._servers.items()
        }


def group_seconds(leader: int) -> float:
    """Return the CPU time of a process group, which is a server and the processes it has started.

    It includes threads, and child processes that have ended.
    """
    return sum(ticks for group, ticks in _processes() if group == leader) / TICKS_A_SECOND


def _processes() -> Iterator[tuple[int, int]]:
    """Yield process group and CPU time of every process. See proc_pid_stat(5) for the fields."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
            # The program's name, in parentheses, may contain spaces.
            fields = path.read_text().rpartition(")")[2].split()
            yield int(fields[2]), sum(map(int, fields[11:15]))
