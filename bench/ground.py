"""What every benchmark needs: RabbitMQ, MongoDB and a site, in a temporary folder."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.servers import MongoDB, RabbitMQ, accepts, free_port, install_missing
from dev.stack import ROOT, running


@dataclass(frozen=True, slots=True)
class Ground:
    """The running servers, the port of the site, and a folder for the files of processes."""

    rabbitmq: RabbitMQ
    mongodb: MongoDB
    site_port: int
    folder: Path


@contextmanager
def prepared_ground() -> Iterator[Ground]:
    """Run the servers and the site while the block lasts."""
    install_missing()
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rabbitmq, mongodb = RabbitMQ(folder / "rabbitmq"), MongoDB(folder / "mongodb")
        stack.enter_context(running(rabbitmq, mongodb))
        port = free_port()
        site = subprocess.Popen([sys.executable, "-m", "bench.site", str(port)], cwd=ROOT)
        stack.callback(site.wait)
        stack.callback(site.kill)
        _wait_for(site, port)
        yield Ground(rabbitmq, mongodb, port, folder)


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Return once the process listens on its port."""
    while not accepts(port):
        if process.poll() is not None:
            raise RuntimeError("the site has ended before it listened")
        time.sleep(0.05)
