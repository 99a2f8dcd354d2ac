"""`just soak [minutes] [seed]`: load and one fault after another, at random, on real processes.

The clock of one worker is half a second ahead.

`just soak --requests 100000 [seed]` goes on until so many requests were accepted. The checker of
the fault tests judges the whole run. Its table is printed, with a row for each fault; the exit
status is 0 only if no promise was broken.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from rich.console import Console

from dev.servers import MongoDB, RabbitMQ, Server, install_missing
from dev.stack import Api, Worker, running
from tests.checker import judged
from tests.clocks import a_clock
from tests.history import NO_ANSWER
from tests.load import Load, supervised
from tests.messages import publish
from tests.service import Service
from tests.site import Site, serving

SETTINGS = {
    "BROKER_QUEUE_MAX_LENGTH": "500",
    "WORKER_SHUTDOWN_GRACE_SECONDS": "2",
    "FETCH_PER_HOST_CONCURRENCY": "0",  # all pages are of one host
}
REST_SECONDS = 10.0
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
            "malformed messages": lambda: publish(service, [b"{"] * 3),
        }

    def _restart_api(self) -> None:
        self.api.terminate()
        self.api.start()

    def _fail_pages(self) -> None:
        self.site.failing = True
        _wait(3)
        self.site.failing = False


def soak(is_over: Callable[[Load], bool], seed: int) -> bool:
    """Hurt the service under load until it is over; return whether every promise was kept."""
    random.seed(seed)
    _console.print(f"faults at random, seed {seed}")
    with deployed() as deployment, ExitStack() as stack:
        for worker in deployment.workers:
            stack.enter_context(supervised(worker.launch))
        load = Load(deployment.service, deployment.api, _urls(deployment.site), callers=32).start()
        stack.callback(load.stop)
        while not is_over(load):
            _hurt(deployment)
            _wait(REST_SECONDS)
        load.stop()
        report = judged(deployment.service, deployment.site, within=300)
        _console.print(report.table())
        for finding in report.findings[:50]:
            _console.print(finding.kind, finding.about, finding.detail, soft_wrap=True)
        refused, unanswered = load.answers.count(503), load.answers.count(NO_ANSWER)
        _console.print(f"{len(load.answers)} posted: {refused} got 503, {unanswered} no answer")
        return report.is_clean


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Start servers, API and workers in a folder that is removed again."""
    install_missing()
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rabbitmq, mongodb = RabbitMQ(folder / "rabbitmq", name="soak"), MongoDB(folder / "mongodb")
        stack.enter_context(running(rabbitmq, mongodb))
        service = stack.enter_context(closing(Service(folder, rabbitmq, mongodb, "soak")))
        service.listen()
        site = stack.enter_context(serving())
        api = service.api(**SETTINGS).start()
        workers = (service.worker(**SETTINGS), service.worker(**SETTINGS, **a_clock("+0.5")))
        yield Deployment(service, api, workers, site)


def _urls(site: Site) -> Iterator[str]:
    """Yield new pages, pages that fail now and then, and a few that are refreshed all the time."""
    for number in range(10_000_000):
        kinds = ("page", "slow/20", "failing", "page")
        yield site.url(f"/{kinds[number % len(kinds)]}/{number}")
        for refreshed in range(3):
            yield site.url(f"/page/refreshed/{(3 * number + refreshed) % 100}")


def _hurt(deployment: Deployment) -> None:
    name, fault = random.choice(list(deployment.faults().items()))  # noqa: S311 (no secret)
    _console.print(f"  {name}")
    with deployment.service.history.during(name):
        fault()


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


def main() -> None:
    """Read the command line: minutes or --requests N, then a seed to repeat a run."""
    words = sys.argv[1:]
    if words[:1] == ["--requests"]:
        wanted, words = int(words[1]), words[2:]

        def is_over(load: Load) -> bool:
            return load.answers.count(202) >= wanted
    else:
        ends = time.monotonic() + 60 * float(words.pop(0) if words else 10)

        def is_over(load: Load) -> bool:
            del load
            return time.monotonic() > ends

    seed = int(words[0]) if words else random.SystemRandom().randrange(10_000)
    sys.exit(not soak(is_over, seed))


if __name__ == "__main__":
    main()
