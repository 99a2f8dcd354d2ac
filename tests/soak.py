"""`just soak [minutes]`: load and one fault after another, at random, on real processes.

Prints what was accepted, finished, lost and duplicated; exits with 0 only if nothing was lost and
no page has two records.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from rich.console import Console
from rich.table import Table

from dev.servers import MongoDB, RabbitMQ, Server, install_missing
from dev.stack import Api, Worker, running
from tests.load import ENDED, Load, supervised
from tests.service import Service, eventually
from tests.site import Site, serving

SETTINGS = {"BROKER_QUEUE_MAX_LENGTH": "200", "WORKER_SHUTDOWN_GRACE_SECONDS": "2"}
REST_SECONDS = 6.0
"""How long the service is left in peace between two faults."""

_console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that runs, and may be hurt."""

    service: Service
    api: Api
    workers: tuple[Worker, Worker]
    site: Site

    def faults(self) -> dict[str, Callable[[], object]]:
        """Return what may happen, by name; each is over when its function returns."""
        service, worker = self.service, random.choice(self.workers)  # noqa: S311 (no secret)
        return {
            "worker killed": worker.kill,
            "worker stopped": worker.stop,
            "API restarted": self._restart_api,
            "broker killed": lambda: _kill(service.rabbitmq),
            "broker restarted": service.rabbitmq.restart,
            "broker stalled": lambda: _stall(service.rabbitmq),
            "database killed": lambda: _kill(service.mongodb),
            "database stalled": lambda: _stall(service.mongodb),
            "pages fail": self._fail_pages,
        }

    def _restart_api(self) -> None:
        self.api.terminate()
        self.api.start()

    def _fail_pages(self) -> None:
        self.site.failing = True
        _wait(3)
        self.site.failing = False


def soak(minutes: float, seed: int) -> bool:
    """Run for so long; return whether everything that was accepted has finished."""
    random.seed(seed)
    _console.print(f"{minutes:g} minutes of faults, seed {seed}")
    with deployed() as deployment, ExitStack() as stack:
        for worker in deployment.workers:
            stack.enter_context(supervised(worker.launch))
        load = Load(deployment.service, deployment.api, _urls(deployment.site), callers=3).start()
        stack.callback(load.stop)
        happened = _hurt(deployment, time.monotonic() + minutes * 60)
        accepted = load.stop()
        return _report(deployment, happened, load, accepted)


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Start servers, API and workers in a folder that is removed again."""
    install_missing()
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rabbitmq, mongodb = RabbitMQ(folder / "rabbitmq", name="soak"), MongoDB(folder / "mongodb")
        stack.enter_context(running(rabbitmq, mongodb))
        service = stack.enter_context(closing(Service(folder, rabbitmq, mongodb, "soak")))
        site = stack.enter_context(serving())
        workers = (service.worker(**SETTINGS), service.worker(**SETTINGS))
        yield Deployment(service, service.api(**SETTINGS).start(), workers, site)


def _urls(site: Site) -> Iterator[str]:
    kinds = ("slow/20", "slow/200", "failing", "page")
    for number in range(10_000_000):
        yield site.url(f"/{kinds[number % len(kinds)]}/{number}")


def _hurt(deployment: Deployment, until: float) -> Counter[str]:
    happened: Counter[str] = Counter()
    while time.monotonic() < until:
        name, fault = random.choice(list(deployment.faults().items()))  # noqa: S311 (no secret)
        _console.print(f"  {name}")
        fault()
        happened[name] += 1
        _wait(REST_SECONDS)
    return happened


def _kill(server: Server) -> None:
    server.kill()
    _wait(1)
    server.start()


def _stall(server: Server) -> None:
    server.pause()
    _wait(8)
    server.resume()


def _wait(seconds: float) -> None:
    Event().wait(seconds)


def _report(
    deployment: Deployment, happened: Counter[str], load: Load, accepted: dict[str, str]
) -> bool:
    pages = deployment.service.pages

    def lost() -> set[str]:
        ended = pages.find({"status": {"$in": ENDED}}, {"url": True})
        return set(accepted) - {record["url"] for record in ended}

    try:
        eventually(lost, lambda left: not left, within=120)
    except AssertionError as exc:
        _console.print(exc)
    duplicated = pages.count_documents({}) - len(pages.distinct("url"))
    figures = {
        "posted": len(load.answers),
        "accepted (202)": len(accepted),
        "refused (503)": load.answers.count(503),
        "API away": load.answers.count(0),
        "finished": len(accepted) - len(lost()),
        "of them completed": pages.count_documents({"status": "COMPLETED"}),
        "fetches": sum(deployment.site.hits.values()),
        "dead letters": deployment.service.queue("dead").ready,
        "LOST": len(lost()),
        "DUPLICATED": duplicated,
        **{f"fault: {name}": count for name, count in sorted(happened.items())},
    }
    table = Table("what", "count", box=None)
    for name, count in figures.items():
        table.add_row(name, str(count))
    _console.print(table)
    return not (lost() or duplicated)


def main() -> None:
    """Read the command line: minutes, then a seed to repeat a run."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10_000)
    sys.exit(not soak(minutes, seed))


if __name__ == "__main__":
    main()
