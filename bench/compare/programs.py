"""A contestant's process, private to one measurement."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from dev.servers import ServerFailed
from dev.stack import Process


class Program(Process):
    """`python -m <arguments>`, ended with its block, and with it what it has started itself."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], *, environment: Mapping[str, str]
    ) -> None:
        super().__init__(folder, name=arguments[0], environment=environment)
        self._arguments = arguments

    def __enter__(self) -> Self:
        return self.launch()

    def kill(self) -> None:
        """End all that is left of it at once."""
        group = self._process.pid if self._process else None
        super().kill()
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def wait_until(self, done: Callable[[], bool], *, deadline: float = 120.0) -> None:
        """Return once it has done something; raises `ServerFailed` if it won't, or takes long."""
        give_up = time.monotonic() + deadline
        while True:
            may_do_more = self.running and time.monotonic() < give_up
            if done():
                return
            if not may_do_more:
                raise ServerFailed(self._with_log(f"{self.name} has not done all of it"))
            time.sleep(0.02)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", *self._arguments]
