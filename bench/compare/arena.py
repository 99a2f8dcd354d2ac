"""A virtual host and a database of its own for each measurement, on the shared servers."""

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
"""The options with which our service creates its collection."""

Pages = Any
"""A pymongo collection of page records."""


@dataclass(frozen=True, slots=True)
class Place:
    """A fresh virtual host and database, and the settings that name them."""

    folder: Path
    environment: dict[str, str]
    pages: Pages


@contextmanager
def place_in(ground: Ground) -> Iterator[Place]:
    """Create them for one measurement, and delete them when the block is left."""
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
