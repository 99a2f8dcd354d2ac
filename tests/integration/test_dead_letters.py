"""The dead-letter command line on a real broker."""

import json
import os
import subprocess
import sys

import pytest
from dirty_equals import IsPartialDict

from dev.stack import ROOT
from tests.messages import a_message, publish
from tests.service import Service, eventually
from tests.site import Site


@pytest.fixture
def dead(service: Service) -> Service:
    """A deployment with two messages in its dead-letter queue."""
    worker = service.worker().start()
    publish(service, [b"{", b"[]"])
    eventually(lambda: service.queue("dead").ready, lambda count: count == 2)
    worker.stop()
    return service


def run(
    service: Service, *arguments: str, typed: str = "", columns: int = 200
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", "dead-letters", *arguments],
        env={**os.environ, **service.environment, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns)},
        cwd=service.folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def ids(service: Service) -> list[str]:
    lines = run(service, "list").stdout.splitlines()[1:-1]
    return [line.split()[0] for line in lines]


def test_the_list_names_every_letter_and_leaves_it_where_it_is(dead: Service) -> None:
    answer = run(dead, "list")
    assert answer.returncode == 0, answer.stderr
    assert "rejected" in answer.stdout
    assert f"{dead.name}.requests" in answer.stdout
    assert "2 dead letters" in answer.stdout
    assert dead.queue("dead").ready == 2


def test_ids_are_shown_whole_on_a_narrow_terminal(service: Service) -> None:
    service.worker().start()
    publish(service, [a_message("https://example.com/")], queue="dead")
    narrow = run(service, "list", columns=80).stdout
    (letter,) = json.loads(run(service, "list", "--json").stdout)
    assert len(letter["letter_id"]) == 32
    assert letter["letter_id"] in narrow


def test_one_letter_is_shown_whole(dead: Service) -> None:
    letter_id = ids(dead)[0]
    answer = run(dead, "show", letter_id)
    assert answer.returncode == 0, answer.stderr
    assert "x-death" in answer.stdout
    assert answer.stdout.rstrip().endswith("{")


def test_scripts_are_answered_in_json(dead: Service) -> None:
    letter_id = ids(dead)[0]
    shown = json.loads(run(dead, "show", letter_id, "--json").stdout)
    assert shown == IsPartialDict(letter_id=letter_id, reason="rejected", body="{")
    discarded = run(dead, "discard", letter_id, "--yes", "--json")
    assert json.loads(discarded.stdout) == {"discarded": 1}
    sent = run(dead, "send-back", "--all", "--json")
    assert json.loads(sent.stdout) == {"sent_back": 1}


def test_an_unknown_letter_is_an_error(dead: Service) -> None:
    for command in (("show", "none"), ("send-back", "none"), ("discard", "none", "--yes")):
        answer = run(dead, *command)
        assert answer.returncode == 1
        assert "no such dead letter" in answer.stderr
    assert dead.queue("dead").ready == 2


def test_discarding_asks_first(dead: Service) -> None:
    refused = run(dead, "discard", "--all", typed="n\n")
    assert refused.returncode == 1
    assert dead.queue("dead").ready == 2
    agreed = run(dead, "discard", ids(dead)[0], typed="y\n")
    assert agreed.returncode == 0, agreed.stderr
    assert dead.queue("dead").ready == 1


def test_discarding_names_its_letters(dead: Service) -> None:
    assert run(dead, "discard").returncode == 2
    assert dead.queue("dead").ready == 2


def test_a_letter_that_is_sent_back_is_handled(service: Service, site: Site) -> None:
    api = service.api().start()
    publish(service, [a_message(site.url("/page"))], queue="dead")
    answer = run(service, "send-back", "--all")
    assert answer.stdout.strip() == "1 dead letters sent back", answer.stderr
    assert (service.queue("dead").ready, service.queue("requests").ready) == (0, 1)
    service.worker().start()
    assert service.ended(api, site.url("/page"))["status"] == "COMPLETED"


def test_a_letter_that_the_full_queue_refuses_stays(service: Service) -> None:
    full = {"BROKER_QUEUE_MAX_LENGTH": "1"}
    service.environment |= full
    service.api().start()
    publish(service, [b"{"] * 5, queue="dead")
    answer = run(service, "send-back", "--all")
    assert answer.returncode == 2
    assert "queue_rejected" in answer.stderr
    left, sent = service.queue("dead").ready, service.queue("requests").ready
    assert left > 0
    assert left + sent == 5


def test_without_a_broker_it_says_so(service: Service) -> None:
    service.environment["BROKER_URL"] = "amqp://127.0.0.1:1/"
    answer = run(service, "list")
    assert answer.returncode == 2
    assert "RabbitMQ could not be reached" in answer.stderr


def test_without_the_queue_it_says_so(service: Service) -> None:
    answer = run(service, "list")
    assert answer.returncode == 2
    assert f"no queue {service.name}.dead" in answer.stderr
