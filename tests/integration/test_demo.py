"""`just demo` on servers that are already running, as with BROKER_URL and DATABASE_URL set."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pymongo

from dev.servers import MongoDB, RabbitMQ
from dev.stack import ROOT
from tests.plain_http import CLIENT
from tests.service import eventually


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
    assert re.search(r"\nLook at http://127.0.0.1:\d+/inventory while it runs.\n", ran.stdout)
    assert all(title in ran.stdout for title in ("Title", "Home", "Not found", "Flaky"))
    assert "could not be deleted" not in ran.stdout
    assert "demo-" not in rabbitmq.ctl("list_queues", "name")
    with pymongo.MongoClient[dict[str, object]](mongodb.url) as client:
        assert [it for it in client.list_database_names() if it.startswith("metadata_demo_")] == []


def test_the_demo_can_be_kept_running_until_it_is_interrupted(
    rabbitmq: RabbitMQ, mongodb: MongoDB, tmp_path: Path
) -> None:
    servers = {"BROKER_URL": rabbitmq.url, "DATABASE_URL": mongodb.url}
    said = tmp_path / "said"
    with said.open("w") as output:
        demo = subprocess.Popen(
            [sys.executable, "-m", "dev.demo", "--keep"],
            cwd=ROOT,
            env={**os.environ, **servers},
            stdout=output,
        )
    try:
        kept = re.compile(r"until Ctrl-C: (http://127.0.0.1:\d+)/inventory")
        eventually(said.read_text, lambda text: kept.search(text) is not None, within=90)
        api = kept.findall(said.read_text())[0]
        assert CLIENT.get(f"{api}/inventory").status_code == 200
        listed = CLIENT.get(f"{api}/metadata/pages").json()["items"]
        assert len(listed) == 6
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
        assert "Every page ended as expected." in said.read_text()
    finally:
        demo.kill()
