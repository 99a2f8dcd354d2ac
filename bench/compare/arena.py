"""What all contestants run on: the servers, the site, and a place of its own for each."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pymongo

from dev.servers import MongoDB, RabbitMQ, free_port, install_missing
from dev.stack import ROOT, running

COMPLETED = "COMPLETED"

COMPRESSED = {"wiredTiger": {"configString": "block_compressor=zstd"}}
"""As ours makes its collection."""

Pages = Any
"""A pymongo collection of page records."""


@dataclass(frozen=True, slots=True)
class Arena:
    """The servers and the port of the site."""

    rabbitmq: RabbitMQ
    mongodb: MongoDB
    site_port: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Place:
    """A virtual host and a database that nobody has used before, and the settings that say so."""

    folder: Path
    environment: dict[str, str]
    pages: Pages


@contextmanager
def prepared() -> Iterator[Arena]:
    """Start servers and site."""
    install_missing()
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rabbitmq, mongodb = RabbitMQ(folder / "rabbitmq"), MongoDB(folder / "mongodb")
        stack.enter_context(running(rabbitmq, mongodb))
        port = free_port()
        site = subprocess.Popen([sys.executable, "-m", "bench.site", str(port)], cwd=ROOT)
        stack.callback(site.wait)
        stack.callback(site.kill)
        yield Arena(rabbitmq, mongodb, port, folder)


@contextmanager
def place_in(arena: Arena) -> Iterator[Place]:
    """Make a place for one measurement; queues and records are gone after it."""
    name = uuid4().hex
    arena.rabbitmq.ctl("add_vhost", name)
    arena.rabbitmq.ctl("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
    environment = {
        "BROKER_URL": f"{arena.rabbitmq.url}{name}",
        "DATABASE_URL": arena.mongodb.url,
        "DATABASE_NAME": name,
    }
    with pymongo.MongoClient[dict[str, Any]](arena.mongodb.url) as client:
        client[name].create_collection("pages", storageEngine=COMPRESSED)
        client[name].pages.create_index("url", unique=True)
        yield Place(arena.folder / name, environment, client[name].pages)
        client.drop_database(name)
    arena.rabbitmq.ctl("delete_vhost", name)
