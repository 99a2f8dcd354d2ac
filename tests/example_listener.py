"""Runs the listeners in `examples/`, each as a process of its own."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aio_pika

from dev.stack import ROOT
from tests.service import Service, eventually

EXAMPLES = ROOT / "examples"
QUEUE = "listener.pages"

Event = tuple[str, str, str]
"""What a listener prints of an event, apart from its time: kind, page and detail."""


class Listener:
    """A running listener, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str], output: Path, errors: Path) -> None:
        self._process = process
        self._output = output
        self._errors = errors

    def events(self) -> list[Event]:
        lines = re.findall(
            r"^\d\d:\d\d:\d\d (\w+) +(\S+)(.*)$", self._output.read_text(), re.MULTILINE
        )
        return [(kind, url, detail.strip()) for kind, url, detail in lines]

    def wait_for(self, *events: Event) -> None:
        """Return once the listener has printed these events in any order, and no other."""
        try:
            eventually(lambda: sorted(self.events()), lambda seen: seen == sorted(events))
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self._errors.read_text()}") from exc

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(20)


@contextmanager
def listening(
    service: Service, command: Sequence[str], folder: Path, **environment: str
) -> Iterator[Listener]:
    """Run a listener on a queue of its own, from when the queue is bound."""
    output, errors = service.folder / "listener.out", service.folder / "listener.err"
    names = {"EXCHANGE": f"{service.name}.events", "QUEUE": f"{service.name}.{QUEUE}"}
    address = {"AMQP_URL": service.rabbitmq.url}
    with output.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **names, **address, **environment},
            stdout=out,
            stderr=err,
            text=True,
        )
    try:
        eventually(lambda: is_consumed(service), bool, within=40)
        yield Listener(process, output, errors)
    finally:
        process.kill()
        process.wait()


def is_consumed(service: Service) -> bool:
    try:
        return service.queue(QUEUE).consumers > 0
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return False
