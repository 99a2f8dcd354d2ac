"""`just demo` on servers that are already running, as with BROKER_URL and DATABASE_URL set."""

import os
import subprocess
import sys

import pymongo

from dev.servers import MongoDB, RabbitMQ
from dev.stack import ROOT


def test_the_demo_shows_every_page_and_leaves_nothing_on_the_servers(
    rabbitmq: RabbitMQ, mongodb: MongoDB
) -> None:
    servers = {"BROKER_URL": rabbitmq.url, "DATABASE_URL": mongodb.url}
    ran = subprocess.run(
        [sys.executable, "-m", "dev.demo"],
        cwd=ROOT,
        env={**os.environ, **servers},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Every page ended as expected." in ran.stdout
    assert all(title in ran.stdout for title in ("Title", "Home", "Not found", "Flaky"))
    assert "could not be deleted" not in ran.stdout
    assert "demo-" not in rabbitmq.ctl("list_queues", "name")
    with pymongo.MongoClient[dict[str, object]](mongodb.url) as client:
        assert [it for it in client.list_database_names() if it.startswith("metadata_demo_")] == []
