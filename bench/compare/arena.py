"""What all contestants run on: the ground of every benchmark, and a place of its own for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo

from bench.ground import Ground

COMPLETED = "COMPLETED"

COMPRESSED = {"wiredTiger": {"configString": "block_compressor=zstd"}}
"""As ours makes its collection."""

Pages = Any
"""A pymongo collection of page records."""


@dataclass(frozen=True, slots=True)
class Place:
    """A virtual host and a database that nobody has used before, and the settings that say so."""

    folder: Path
    environment: dict[str, str]
    pages: Pages


@contextmanager
def place_in(ground: Ground) -> Iterator[Place]:
    """Make a place for one measurement; queues and records are gone after it."""
    name = uuid4().hex
    ground.rabbitmq.ctl("add_vhost", name)
    ground.rabbitmq.ctl("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
    environment = {
        "BROKER_URL": f"{ground.rabbitmq.url}{name}",
        "DATABASE_URL": ground.mongodb.url,
        "DATABASE_NAME": name,
    }
    with pymongo.MongoClient[dict[str, Any]](ground.mongodb.url) as client:
        client[name].create_collection("pages", storageEngine=COMPRESSED)
        client[name].pages.create_index("url", unique=True)
        yield Place(ground.folder / name, environment, client[name].pages)
        client.drop_database(name)
    ground.rabbitmq.ctl("delete_vhost", name)
