"""The queues and the exchange, as data. Both processes declare all of them, from this file only.

    API ──▶ metadata.requests ──▶ worker ──(retry)──▶ metadata.retry.<delay>
                   │                ▲                        │ after its TTL
                   │                └── metadata.retries ◀───┘
                   ▼ rejected, or delivered too often │
            metadata.dead ◀───────────────────────────┘

Retries come back on a queue of their own, `metadata.retries`, which has no length limit. On the
request queue, which has one, a retry would be refused while new requests fill it.

Events of pages go to the exchange `metadata.events`. Listeners bind queues of their own to it; the
service has none there.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import ChannelPreconditionFailed
from faststream.rabbit import ExchangeType, QueueType, RabbitExchange, RabbitQueue

from app.errors import TopologyMismatch

DELIVERY_LIMIT = 20
"""How often a message may come back to a quorum queue unsettled. The next time it is dead-lettered,
so it is delivered 21 times at most."""

NO_DELIVERY_LIMIT = 2**31 - 1
"""The limit of `metadata.dead`, where each `dead-letters list` is a delivery.

From RabbitMQ 4 on a quorum queue without the argument has a limit of 20, and drops what exceeds it
(https://github.com/rabbitmq/rabbitmq-server/pull/11937).
"""

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?:queue|exchange) '[^']+'"
    r".*?: (?P<difference>received .*)"
)


@dataclass(frozen=True, slots=True)
class Topology:
    """All queues of the service, and the exchange of its events.

    `retry_delays` maps each delay in seconds to its queue.
    """

    requests: RabbitQueue
    retries: RabbitQueue
    dead: RabbitQueue
    retry_delays: dict[float, RabbitQueue]
    events: RabbitExchange
    retry_address: str
    """The name of a retry queue, with `{delay}` for its delay."""

    @property
    def consumed(self) -> tuple[RabbitQueue, RabbitQueue]:
        """The queues that workers consume."""
        return (self.requests, self.retries)

    def __iter__(self) -> Iterator[RabbitQueue]:
        """Yield every queue, each after the one it dead-letters to.

        Declared in this order, no queue dead-letters to one that does not exist yet.
        """
        yield from (self.dead, self.retries, *self.retry_delays.values(), self.requests)


def build_topology(
    *,
    queue_name: str,
    queue_type: str,
    max_length: int,
    retry_delays_seconds: tuple[float, ...],
) -> Topology:
    """Return the queues. The first part of `queue_name` is the prefix of all their names."""
    prefix = queue_name.split(".", 1)[0]
    kind = QueueType(queue_type)
    dead = _queue(f"{prefix}.dead", kind, _delivery_limit(kind, NO_DELIVERY_LIMIT))
    to_dead = _delivery_limit(kind) | _dead_letters_to(dead, kind)
    retries = _queue(f"{prefix}.retries", kind, to_dead)
    bounded = {"x-max-length": max_length, "x-overflow": "reject-publish"}
    requests = _queue(queue_name, kind, bounded | to_dead)
    address = f"{prefix}.retry.{{delay}}"
    delays = {s: _retry_queue(address, s, retries) for s in sorted(set(retry_delays_seconds))}
    # Not robust, like the queues: see `declare()`.
    events = RabbitExchange(f"{prefix}.events", ExchangeType.TOPIC, durable=True, robust=False)
    return Topology(requests, retries, dead, delays, events, address)


def _retry_queue(address: str, seconds: float, retries: RabbitQueue) -> RabbitQueue:
    # Always a quorum queue, because a classic queue can lose a message that it dead-letters.
    kind = QueueType.QUORUM
    ttl = {"x-message-ttl": round(seconds * 1000)}
    name = address.format(delay=delay_label(seconds))
    return _queue(name, kind, ttl | _dead_letters_to(retries, kind))


def _queue(name: str, kind: QueueType, arguments: dict[str, Any] | None = None) -> RabbitQueue:
    # FastStream's overloads want a literal queue type, and here it is a setting.
    queue: RabbitQueue = RabbitQueue(  # type: ignore[call-overload]
        name, kind, durable=True, arguments=arguments or {}
    )
    return queue


def _dead_letters_to(queue: RabbitQueue, source_kind: QueueType) -> dict[str, Any]:
    """Return the arguments of a queue that dead-letters to `queue`.

    By default a message is published to the other queue once, unconfirmed: it is lost if that queue
    is missing or has no leader at that moment. With `at-least-once` it stays in the source queue
    until the other queue has confirmed it. Only quorum queues can do so, and they demand
    `reject-publish`, also from a queue without a length limit
    (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
    """
    target = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.name}
    if source_kind is QueueType.CLASSIC:
        return target
    safely = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return target | safely


def _delivery_limit(kind: QueueType, limit: int = DELIVERY_LIMIT) -> dict[str, Any]:
    return {"x-delivery-limit": limit} if kind is QueueType.QUORUM else {}


def delay_label(seconds: float) -> str:
    """Return the delay as it is written in queue names: 5s, 2m, 1h, 1500ms."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


async def declare(
    connection: AbstractRobustConnection,
    queues: Iterable[RabbitQueue],
    exchanges: Iterable[RabbitExchange] = (),
) -> None:
    """Declare queues and exchanges. For what exists, this only compares its arguments.

    Raises `TopologyMismatch` if something exists with other arguments.
    """
    async with connection.channel(publisher_confirms=False) as channel:
        for queue in queues:
            with _mismatch_told("queue", queue.name):
                await channel.declare_queue(
                    queue.name,
                    durable=queue.durable,
                    arguments=queue.arguments,
                    # aio-pika would declare a robust queue again after each reconnection, and
                    # repeat that without end if the arguments differ. `BrokerConnection` does it
                    # and can say so.
                    robust=False,
                )
        for exchange in exchanges:
            with _mismatch_told("exchange", exchange.name):
                await channel.declare_exchange(
                    exchange.name, exchange.type.value, durable=exchange.durable, robust=False
                )


@contextmanager
def _mismatch_told(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except ChannelPreconditionFailed as exc:
        raise TopologyMismatch(_explain(what, name, str(exc))) from exc


def _explain(what: str, name: str, answer: str) -> str:
    match = _INEQUIVALENT.search(answer)
    if match is None:
        return f"{what} {name!r} could not be declared: {answer}"
    return (
        f"{what} {name!r} exists with another {match['argument']}: {match['difference']}. "
        f"Change the settings to what the {what} has, or set BROKER_QUEUE_NAME to a name that is "
        f"not in use, or delete the {what} {_HOW_TO_DELETE[what].format(name)}."
    )


_HOW_TO_DELETE = {
    "queue": "once it is empty (rabbitmqctl delete_queue {})",
    "exchange": "(rabbitmqadmin delete exchange name={})",
}
