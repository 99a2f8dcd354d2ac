"""The queues: names, arguments, and the message about a queue that has others."""

from typing import Any

import pytest
from aio_pika.exceptions import ChannelPreconditionFailed

from app.broker.topology import Topology, build_topology, declare, delay_label
from app.errors import TopologyMismatch
from app.runtime.settings import Settings
from tests.unit.amqp import TOPOLOGY, FakeConnection


def a_topology(**changes: Any) -> Topology:
    defaults: dict[str, Any] = {
        "queue_name": "metadata.requests",
        "queue_type": "quorum",
        "max_length": 1000,
        "retry_delays_seconds": (5, 30, 120, 600),
    }
    return build_topology(**{**defaults, **changes})


def arguments(topology: Topology) -> dict[str, dict[str, Any]]:
    return {queue.name: dict(queue.arguments or {}) for queue in topology}


def dead_letters_to(queue: str) -> dict[str, Any]:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}


def dead_letters_at_least_once_to(queue: str) -> dict[str, Any]:
    safely = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return {**dead_letters_to(queue), **safely}


def a_retry_queue(milliseconds: int) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": milliseconds,
        **dead_letters_at_least_once_to("metadata.retries"),
    }


def test_every_queue_has_the_published_name_and_arguments(settings: Settings) -> None:
    topology = build_topology(
        queue_name=settings.broker_queue_name,
        queue_type=settings.broker_queue_type,
        max_length=settings.broker_queue_max_length,
        retry_delays_seconds=settings.worker_retry_delays_seconds,
    )
    quorum = {"x-queue-type": "quorum", "x-delivery-limit": 20}
    to_dead = dead_letters_at_least_once_to("metadata.dead")
    assert arguments(topology) == {
        "metadata.requests": {**quorum, **to_dead, "x-max-length": 1000},
        "metadata.retry.5s": a_retry_queue(5_000),
        "metadata.retry.30s": a_retry_queue(30_000),
        "metadata.retry.2m": a_retry_queue(120_000),
        "metadata.retry.10m": a_retry_queue(600_000),
        "metadata.retries": {**quorum, **to_dead},
        "metadata.dead": {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1},
    }


def test_every_queue_survives_a_restart_of_the_broker() -> None:
    assert all(queue.durable and not queue.exclusive for queue in TOPOLOGY)
    assert not any(queue.auto_delete for queue in TOPOLOGY)


def test_classic_queues_have_neither_a_delivery_limit_nor_safe_dead_lettering() -> None:
    of = arguments(a_topology(queue_type="classic"))
    to_dead = dead_letters_to("metadata.dead")
    bounded = {"x-max-length": 1000, "x-overflow": "reject-publish"}
    assert of["metadata.requests"] == {"x-queue-type": "classic", **bounded, **to_dead}
    assert of["metadata.retries"] == {"x-queue-type": "classic", **to_dead}
    assert of["metadata.dead"] == {"x-queue-type": "classic"}


def test_delay_queues_are_quorum_queues_for_the_classic_type_too() -> None:
    of = arguments(a_topology(queue_type="classic"))
    assert of["metadata.retry.5s"] == a_retry_queue(5_000)


@pytest.mark.parametrize(
    ("queue_name", "prefix"),
    [("metadata.requests", "metadata"), ("t1.requests", "t1"), ("a.b.c", "a")],
)
def test_the_first_part_of_the_queue_name_is_the_prefix_of_every_name(
    queue_name: str, prefix: str
) -> None:
    topology = a_topology(queue_name=queue_name, retry_delays_seconds=(5,))
    names = [f"{prefix}.dead", f"{prefix}.retries", f"{prefix}.retry.5s", queue_name]
    assert [queue.name for queue in topology] == names
    assert arguments(topology)[queue_name]["x-dead-letter-routing-key"] == f"{prefix}.dead"


def test_each_queue_is_declared_after_the_one_it_dead_letters_to() -> None:
    declared: set[str] = set()
    for queue in TOPOLOGY:
        target = (queue.arguments or {}).get("x-dead-letter-routing-key")
        assert target is None or target in declared
        declared.add(queue.name)


def test_a_delay_that_is_set_twice_has_one_queue() -> None:
    assert list(a_topology(retry_delays_seconds=(30, 5, 30)).retry_delays) == [5, 30]


@pytest.mark.parametrize(
    ("seconds", "label"),
    [
        (0.25, "250ms"),
        (1, "1s"),
        (1.5, "1500ms"),
        (5, "5s"),
        (30, "30s"),
        (60, "1m"),
        (90, "90s"),
        (120, "2m"),
        (600, "10m"),
        (3600, "1h"),
        (5400, "90m"),
        (86_400, "24h"),
    ],
)
def test_a_delay_is_written_in_its_largest_whole_unit(seconds: float, label: str) -> None:
    assert delay_label(seconds) == label


async def test_every_queue_is_declared_with_its_arguments() -> None:
    connection = FakeConnection()
    await declare(connection, TOPOLOGY)
    assert connection.queues.declared == [queue.name for queue in TOPOLOGY]
    assert connection.queues.options == {
        queue.name: {"durable": True, "arguments": queue.arguments, "robust": False}
        for queue in TOPOLOGY
    }
    assert not connection.queues.is_open


async def test_the_exchange_of_events_is_declared_as_durable() -> None:
    connection = FakeConnection()
    await declare(connection, [], [TOPOLOGY.events])
    assert connection.queues.options == {
        "metadata.events": {"type": "topic", "durable": True, "robust": False}
    }


async def test_an_exchange_of_another_type_is_named_with_what_to_do() -> None:
    connection = FakeConnection()
    connection.queues.answers.append(
        ChannelPreconditionFailed(
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'metadata.events' "
            "in vhost '/': received 'topic' but current is 'fanout'"
        )
    )
    with pytest.raises(TopologyMismatch) as mismatch:
        await declare(connection, [], [TOPOLOGY.events])
    assert str(mismatch.value) == (
        "exchange 'metadata.events' exists with another type: "
        "received 'topic' but current is 'fanout'. Change the settings to what the exchange has, "
        "or set BROKER_QUEUE_NAME to a name that is not in use, or delete the exchange "
        "(rabbitmqadmin delete exchange name=metadata.events)."
    )
    assert not connection.queues.is_open


async def declared_against(answer: str) -> str:
    connection = FakeConnection()
    connection.queues.answers.extend([None] * 6)
    connection.queues.answers.append(ChannelPreconditionFailed(answer))
    with pytest.raises(TopologyMismatch) as mismatch:
        await declare(connection, TOPOLOGY)
    assert not connection.queues.is_open
    return str(mismatch.value)


async def test_a_queue_with_another_argument_is_named_with_what_to_do() -> None:
    message = await declared_against(
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'metadata.requests' "
        "in vhost '/': received '1000' but current is '5'"
    )
    assert message == (
        "queue 'metadata.requests' exists with another x-max-length: "
        "received '1000' but current is '5'. Change the settings to what the queue has, or "
        "set BROKER_QUEUE_NAME to a name that is not in use, or delete the queue once it is empty "
        "(rabbitmqctl delete_queue metadata.requests)."
    )


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'metadata.requests' "
            "in vhost 'a: b': received the value 'quorum' of type 'longstr' but current is none",
            "exists with another x-queue-type: "
            "received the value 'quorum' of type 'longstr' but current is none.",
            id="an argument it does not have",
        ),
        pytest.param(
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'metadata.requests' "
            "in vhost '/': received 'true' but current is 'false'",
            "exists with another durable: received 'true' but current is 'false'.",
            id="a property",
        ),
        pytest.param(
            "PRECONDITION_FAILED - something new",
            "could not be declared: PRECONDITION_FAILED - something new",
            id="an answer of another form",
        ),
    ],
)
async def test_every_answer_of_the_broker_is_explained(answer: str, says: str) -> None:
    message = await declared_against(answer)
    assert says in message
    assert "metadata.requests" in message
