"""The service as child processes: the two servers, the API and a worker.

    with services(folder) as addresses:
        environment = settings_in_file() | addresses
        with running(Worker(folder, environment=environment), Api(folder, environment=environment)):
            ...

The processes are started as the README says. Each keeps its log in the folder it is given, listens
on the loopback interface only and is stopped in order when its block is left. `just up`, the demo
and the tests are made of the same pieces. What a run leaves is below `.state/`.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, ClassVar, Self

import httpx
from dotenv import dotenv_values

from app.runtime.settings import Settings, load_settings
from dev.servers import (
    LOOPBACK,
    MongoDB,
    RabbitMQ,
    Server,
    ServerFailed,
    install_missing,
)

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".state"

Event = dict[str, Any]
Say = Callable[[str], None]


PROBE = httpx.Client(timeout=2, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""One for all, since each would read all certificates anew."""

# Where everything listens when people are to find it.
API_PORT = 6577
WORKER_PORT = 6578
BROKER_PORT = 5672
MANAGEMENT_PORT = 15672
DATABASE_PORT = 27017


# --- One process of the service -------------------------------------------------------------------


class Process(Server):
    """The API or a worker, with settings of its own and a log that can be waited on.

    `start()` returns once the process is ready, `launch()` at once. The process runs in its
    folder, so that no `.env` but the given `environment` adds to what it inherits.
    """

    stop_deadline: ClassVar[float] = 45.0  # longer than WORKER_SHUTDOWN_GRACE_SECONDS
    usual_name: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        port: int | None = None,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(folder, name=name or self.usual_name, port=port)
        self.environment = dict(environment)
        self._log_start = 0

    @property
    def url(self) -> str:
        """Where it answers HTTP, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    def launch(self) -> Self:
        """Start it without waiting for anything, not even for it to survive."""
        self._prepare()
        self._spawn()
        return self

    def wait_until_ready(self, deadline: float = 30.0) -> None:
        """Return once `/health/ready` says so; raises `ServerFailed` if it never does."""
        self._wait_until_ready(deadline)

    def terminate(
        self, by: signal.Signals = signal.SIGTERM, *, deadline: float = stop_deadline
    ) -> int:
        """Send a signal and return the exit code; that is negative if the signal ended it."""
        if self._process is not None:
            self._process.send_signal(by)
        return self.wait(deadline)

    def wait(self, deadline: float = stop_deadline) -> int:
        """Return the exit code once the process has ended."""
        if self._process is None:
            raise ServerFailed(f"{self.name} was not started")
        try:
            return self._process.wait(deadline)
        except TimeoutExpired as exc:
            raise ServerFailed(self._with_log(f"{self.name} has not ended")) from exc

    def events(self, name: str, **fields: object) -> list[Event]:
        """Return what was logged under this name since the start, oldest first.

        Only events that have all of the fields, with these values.
        """
        wanted = {"event": name, **fields}
        return [event for event in self._events_with(name) if wanted.items() <= event.items()]

    def wait_for_event(
        self, name: str, *, count: int = 1, deadline: float = 20.0, **fields: object
    ) -> Event:
        """Return an event once it is in the log, or the `count`th of its kind."""
        give_up = time.monotonic() + deadline
        while True:
            may_log_more = self.running and time.monotonic() < give_up
            found = self.events(name, **fields)
            if len(found) >= count:
                return found[count - 1]
            if not may_log_more:
                wanted = " ".join([name, *(f"{field}={value}" for field, value in fields.items())])
                raise ServerFailed(self._with_log(f"{self.name} did not log {wanted}"))
            time.sleep(0.02)

    def _events_with(self, name: str) -> Iterator[Event]:
        """Yield the events of lines that have this name; to parse every line takes much longer."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            mentioned = (line for line in log if name.encode() in line)
            yield from filter(None, map(_parsed, mentioned))

    def _prepare(self) -> None:
        super()._prepare()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), **self.environment, "PYTHONPATH": str(ROOT)}

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return PROBE.get(f"{self.url}/health/ready").is_success
        return False


def _parsed(line: bytes) -> Event | None:
    """Return the event of a line, None for one that is not (yet) a whole event."""
    with suppress(ValueError):
        event = json.loads(line)
        return event if isinstance(event, dict) else None
    return None


class Api(Process):
    """`python -m app.api`."""

    usual_name = "api"

    def _command(self) -> list[str]:
        address = ("--host", LOOPBACK, "--port", str(self.port))
        return [sys.executable, "-m", "app.api", *address]


class Worker(Process):
    """`faststream run app.worker.main:app`."""

    usual_name = "worker"

    def _command(self) -> list[str]:
        address = ("--host", LOOPBACK, "--port", str(self.port))
        return [sys.executable, "-m", "faststream", "run", "app.worker.main:app", *address]


# --- Several of them ------------------------------------------------------------------------------


def quiet(_text: str) -> None:
    """Say nothing, as befits a test."""


@contextmanager
def running(*servers: Server, say: Say = quiet) -> Iterator[None]:
    """Start them side by side; stop them when the block is left, the last one first."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
        stack.callback(say, f"Stopping {_listed(servers[::-1])} ...")
        say(f"Starting {_listed(servers)} ...")
        _start_all(servers, say)
        yield


def _start_all(servers: Sequence[Server], say: Say) -> None:
    with ThreadPoolExecutor() as pool:
        try:
            list(pool.map(lambda server: _start(server, say), servers))
        except BaseException:
            for server in servers:
                server.kill()  # the threads that wait for it then end
            raise


def _start(server: Server, say: Say) -> None:
    begun = time.monotonic()
    server.start()
    say(f"  {server.name:<8} ready after {time.monotonic() - begun:.1f} s, on port {server.port}")


def _listed(servers: Sequence[Server]) -> str:
    return " and ".join(server.name for server in servers)


# --- The two servers, unless they are elsewhere ---------------------------------------------------


@contextmanager
def services(
    folder: Path, *, usual_ports: bool = False, say: Say = quiet
) -> Iterator[dict[str, str]]:
    """Have RabbitMQ and MongoDB; yields the settings that name the ones started here.

    A server that BROKER_URL or DATABASE_URL names already is left as it is. Without
    `usual_ports` free ones are taken, and RabbitMQ does without its management pages.
    """
    settings = load_settings()
    servers: dict[str, Server] = {}
    if not _is_elsewhere(settings, "broker_url", BROKER_PORT):
        servers["BROKER_URL"] = _rabbitmq(folder / "rabbitmq", usual_ports=usual_ports)
    if not _is_elsewhere(settings, "database_url", DATABASE_PORT):
        servers["DATABASE_URL"] = _mongodb(folder / "mongodb", usual_ports=usual_ports)
    if not servers:
        yield {}
        return
    install_missing()
    with running(*servers.values(), say=say):
        yield {variable: server.url for variable, server in servers.items()}


def _rabbitmq(folder: Path, *, usual_ports: bool) -> RabbitMQ:
    if not usual_ports:
        return RabbitMQ(folder)
    require_free(BROKER_PORT, "RabbitMQ, unless BROKER_URL names one")
    require_free(MANAGEMENT_PORT, "RabbitMQ's management pages")
    return RabbitMQ(folder, port=BROKER_PORT, management_port=MANAGEMENT_PORT)


def _mongodb(folder: Path, *, usual_ports: bool) -> MongoDB:
    if not usual_ports:
        return MongoDB(folder)
    require_free(DATABASE_PORT, "MongoDB, unless DATABASE_URL names one")
    return MongoDB(folder, port=DATABASE_PORT)


def _is_elsewhere(settings: Settings, field: str, usual_port: int) -> bool:
    """Say whether a setting names a server that is not ours to start.

    A copy of `.env.example` sets the default, which alone does not mean that one is there.
    """
    if field not in settings.model_fields_set:
        return False
    is_default = getattr(settings, field) == Settings.model_fields[field].default
    return not is_default or _is_taken(usual_port)


def settings_in_file() -> dict[str, str]:
    """Return what `.env` sets and the environment does not: processes run in their own folders."""
    return {
        name.upper(): value
        for name, value in dotenv_values(ROOT / ".env").items()
        if value is not None and name.upper() not in os.environ
    }


def require_free(port: int, needed_by: str) -> None:
    """Raise `ServerFailed` if somebody listens on the port."""
    if _is_taken(port):
        raise ServerFailed(f"Port {port} is taken. It is needed by {needed_by}.")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
