"""The queues, as data: declared by both processes, idempotently, from this file alone.

    API ──▶ metadata.requests ──▶ worker ──(retry)──▶ metadata.retry.<delay>
                   │                ▲                        │ after its TTL
                   │                └── metadata.retries ◀───┘
                   ▼ rejected, or delivered too often │
            metadata.dead ◀───────────────────────────┘

Retries come back on a queue of their own, never on the bounded one: a retry must not be
refused because new requests fill the queue.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed
from faststream.rabbit import QueueType, RabbitQueue

from app.errors import TopologyMismatch

DELIVERY_LIMIT = 20
"""Deliveries after which a quorum queue dead-letters a message nobody settles."""

NO_DELIVERY_LIMIT = 2**31 - 1
"""For dead letters, each look at which is a delivery: from RabbitMQ 4 on a quorum queue that names
no limit has one of 20, and drops what is beyond it (rabbitmq-server, pull request 11937)."""

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for queue '(?P<queue>[^']+)'"
    r".*?: (?P<difference>received .*)"
)


@dataclass(frozen=True, slots=True)
class Topology:
    """All queues of the service; `retry_delays` maps seconds to the queue that waits them."""

    requests: RabbitQueue
    retries: RabbitQueue
    dead: RabbitQueue
    retry_delays: dict[float, RabbitQueue]

    @property
    def consumed(self) -> tuple[RabbitQueue, RabbitQueue]:
        """The queues that workers take messages from."""
        return (self.requests, self.retries)

    def __iter__(self) -> Iterator[RabbitQueue]:
        """Yield every queue, those that others dead-letter to first."""
        yield from (self.dead, self.retries, *self.retry_delays.values(), self.requests)


def build_topology(
    *,
    queue_name: str,
    queue_type: str,
    max_length: int,
    retry_delays_seconds: tuple[float, ...],
) -> Topology:
    """Return the queues; the first part of `queue_name` is the prefix of all their names."""
    prefix = queue_name.split(".", 1)[0]
    kind = QueueType(queue_type)
    dead = _queue(f"{prefix}.dead", kind, _delivery_limit(kind, NO_DELIVERY_LIMIT))
    retries = _queue(f"{prefix}.retries", kind, _delivery_limit(kind) | _dead_letters_to(dead))
    bounded = {"x-max-length": max_length, "x-overflow": "reject-publish"}
    requests = _queue(queue_name, kind, bounded | _delivery_limit(kind) | _dead_letters_to(dead))
    delays = {s: _retry_queue(prefix, s, retries) for s in sorted(set(retry_delays_seconds))}
    return Topology(requests, retries, dead, delays)


def _retry_queue(prefix: str, seconds: float, retries: RabbitQueue) -> RabbitQueue:
    arguments = {
        "x-message-ttl": round(seconds * 1000),
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
    }
    # Always a quorum queue: only those dead-letter at least once, and only with reject-publish
    # (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
    return _queue(
        f"{prefix}.retry.{delay_label(seconds)}",
        QueueType.QUORUM,
        arguments | _dead_letters_to(retries),
    )


def _queue(name: str, kind: QueueType, arguments: dict[str, Any] | None = None) -> RabbitQueue:
    # FastStream overloads on the literal queue type, which is a setting here.
    queue: RabbitQueue = RabbitQueue(  # type: ignore[call-overload]
        name, kind, durable=True, arguments=arguments or {}
    )
    return queue


def _dead_letters_to(queue: RabbitQueue) -> dict[str, Any]:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.name}


def _delivery_limit(kind: QueueType, limit: int = DELIVERY_LIMIT) -> dict[str, Any]:
    return {"x-delivery-limit": limit} if kind is QueueType.QUORUM else {}


def delay_label(seconds: float) -> str:
    """Return the delay as queue names spell it: 5s, 2m, 1h, 1500ms."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


async def declare(connection: AbstractConnection, queues: Iterable[RabbitQueue]) -> None:
    """Declare the queues, on a channel that is closed again.

    Raises `TopologyMismatch` if one exists with other arguments.
    """
    async with connection.channel(publisher_confirms=False) as channel:
        for queue in queues:
            await _declare_one(channel, queue)


async def _declare_one(channel: Any, queue: RabbitQueue) -> None:
    try:
        await channel.declare_queue(
            queue.name,
            durable=queue.durable,
            arguments=queue.arguments,
            # Ours to declare again after a reconnection: aio-pika would loop on a mismatch.
            robust=False,
        )
    except ChannelPreconditionFailed as exc:
        raise TopologyMismatch(_explain(queue, str(exc))) from exc


def _explain(queue: RabbitQueue, answer: str) -> str:
    match = _INEQUIVALENT.search(answer)
    if match is None:
        return f"queue {queue.name!r} could not be declared: {answer}"
    return (
        f"queue {queue.name!r} exists with another {match['argument']}: {match['difference']}. "
        "Set the settings to what the queue has, or set BROKER_QUEUE_NAME to a name that is "
        "not taken, or, once the queue is drained, delete it "
        f"(rabbitmqctl delete_queue {queue.name})."
    )
