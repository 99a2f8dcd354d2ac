"""`pagemeta dead-letters` on a real broker."""

import asyncio
import json
import os
import subprocess
import sys

import aio_pika
import pytest
from dirty_equals import IsPartialDict
from typer.testing import Result

from dev.stack import ROOT
from tests.command_line import pagemeta
from tests.messages import a_message, publish
from tests.service import Service, eventually
from tests.site import Site

COMMAND = [sys.executable, "-m", "app.cli.main", "dead-letters"]


@pytest.fixture(scope="module")
def declared(shared_service: Service) -> Service:
    """A deployment that has its queues, and no process that takes anything from them."""
    shared_service.worker().start().stop()
    return shared_service


@pytest.fixture
def dead(declared: Service) -> Service:
    """A service with two messages in its dead-letter queue, and none in the others."""
    asyncio.run(_reject_two(declared))
    eventually(lambda: declared.queue("dead").ready, lambda count: count == 2)
    return declared


async def _reject_two(service: Service) -> None:
    """Reject two messages, as a worker does those that are no requests."""
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        requests = await channel.get_queue(f"{service.name}.requests")
        for queue in (requests, await channel.get_queue(f"{service.name}.dead")):
            await queue.purge()
        for body in (b"{", b"[]"):
            await channel.default_exchange.publish(aio_pika.Message(body), requests.name)
            await (await requests.get()).reject()


def run(service: Service, *arguments: str, typed: str = "") -> Result:
    return pagemeta(service, "dead-letters", *arguments, typed=typed)


def ids(service: Service) -> list[str]:
    letters = json.loads(run(service, "list", "--json").stdout)
    return [letter["letter_id"] for letter in letters]


def test_the_list_names_every_dead_letter_and_leaves_it_in_the_queue(dead: Service) -> None:
    answer = run(dead, "list")
    assert answer.exit_code == 0, answer.stderr
    assert "rejected" in answer.stdout
    assert "2 dead letters" in answer.stdout
    letters = json.loads(run(dead, "list", "--json").stdout)
    assert {letter["came_from"] for letter in letters} == {f"{dead.name}.requests"}
    assert dead.queue("dead").ready == 2


def test_ids_are_shown_whole_on_a_narrow_terminal(dead: Service) -> None:
    letter_id, _ = ids(dead)
    assert len(letter_id) == 32
    # The width of the terminal is read once, at the start of the program.
    environment = {**os.environ, **dead.environment, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    narrow = subprocess.check_output([*COMMAND, "list"], env=environment, text=True, timeout=30)
    assert letter_id in narrow


def test_all_of_one_dead_letter_is_shown(dead: Service) -> None:
    answer = run(dead, "show", ids(dead)[0])
    assert answer.exit_code == 0, answer.stderr
    assert "x-death" in answer.stdout
    assert answer.stdout.rstrip().endswith("{")


def test_scripts_get_json(dead: Service) -> None:
    letter_id = ids(dead)[0]
    shown = json.loads(run(dead, "show", letter_id, "--json").stdout)
    assert shown == IsPartialDict(letter_id=letter_id, reason="rejected", body="{")
    discarded = run(dead, "discard", letter_id, "--yes", "--json")
    assert json.loads(discarded.stdout) == {"discarded": 1}
    sent = run(dead, "send-back", "--all", "--json")
    assert json.loads(sent.stdout) == {"sent_back": 1}


def test_an_unknown_id_is_an_error(dead: Service) -> None:
    for command in (("show", "none"), ("send-back", "none"), ("discard", "none", "--yes")):
        answer = run(dead, *command)
        assert answer.exit_code == 1
        assert "no such dead letter" in answer.stderr
    assert dead.queue("dead").ready == 2


def test_discarding_asks_first(dead: Service) -> None:
    refused = run(dead, "discard", "--all", typed="n\n")
    assert refused.exit_code == 1
    assert dead.queue("dead").ready == 2
    agreed = run(dead, "discard", ids(dead)[0], typed="y\n")
    assert agreed.exit_code == 0, agreed.stderr
    assert dead.queue("dead").ready == 1


def test_discarding_without_ids_or_all_is_wrong_usage(dead: Service) -> None:
    assert run(dead, "discard").exit_code == 2
    assert dead.queue("dead").ready == 2


def test_a_dead_letter_that_is_sent_back_is_handled(service: Service, site: Site) -> None:
    api = service.api().start()
    publish(service, [a_message(site.url("/page"))], queue="dead")
    answer = run(service, "send-back", "--all")
    assert answer.stdout.strip() == "1 dead letters sent back", answer.stderr
    assert (service.queue("dead").ready, service.queue("requests").ready) == (0, 1)
    service.worker().start()
    assert service.ended(api, site.url("/page"))["status"] == "COMPLETED"


def test_a_dead_letter_that_the_full_request_queue_refuses_stays(service: Service) -> None:
    service.environment["BROKER_QUEUE_MAX_LENGTH"] = "1"
    service.api().start()
    publish(service, [b"{"] * 5, queue="dead")
    answer = run(service, "send-back", "--all")
    assert answer.exit_code == 2
    assert "queue_rejected" in answer.stderr
    left, sent = service.queue("dead").ready, service.queue("requests").ready
    assert left > 0
    assert left + sent == 5


def test_a_broker_that_does_not_answer_is_named(service: Service) -> None:
    service.environment["BROKER_URL"] = "amqp://127.0.0.1:1/"
    answer = run(service, "list")
    assert answer.exit_code == 2
    assert "RabbitMQ could not be reached" in answer.stderr


def test_the_next_host_is_tried_if_one_does_not_answer(dead: Service) -> None:
    two_hosts = dead.rabbitmq.url.replace("@", "@127.0.0.1:1,")
    ran = pagemeta(dead, "dead-letters", "list", "--json", BROKER_URL=two_hosts)
    assert len(json.loads(ran.stdout)) == 2


def test_a_missing_queue_is_named(service: Service) -> None:
    answer = run(service, "list")
    assert answer.exit_code == 2
    assert f"no queue {service.name}.dead" in answer.stderr


def test_invalid_settings_are_named(service: Service) -> None:
    service.environment["BROKER_QUEUE_TYPE"] = "stream"
    answer = run(service, "list")
    assert answer.exit_code == 2
    assert "BROKER_QUEUE_TYPE" in answer.stderr
