"""The process of a contestant, for one measurement."""

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
    """Runs `python -m <arguments>` while its block lasts; its child processes end with it.

    In the arguments, {port} stands for its port.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        name: str | None = None,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(folder, name=name or arguments[0], environment=environment)
        self._arguments = arguments

    def __enter__(self) -> Self:
        return self.launch()

    def kill(self) -> None:
        """End it by SIGKILL, and whatever is left of its process group."""
        group = self._process.pid if self._process else None
        super().kill()
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def wait_until(self, done: Callable[[], bool], *, deadline: float = 120.0) -> None:
        """Return once `done()` is true.

        Raises `ServerFailed` if the process ends before that, or at the deadline.
        """
        give_up = time.monotonic() + deadline
        while True:
            may_do_more = self.running and time.monotonic() < give_up
            if done():
                return
            if not may_do_more:
                raise ServerFailed(self._with_log(f"{self.name} has not done all of it"))
            time.sleep(0.02)

    def _command(self) -> list[str]:
        arguments = (argument.format(port=self.port) for argument in self._arguments)
        return [sys.executable, "-m", *arguments]
