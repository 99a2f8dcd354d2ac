"""Extra consumers: as many as held messages call for, and none without one."""

from typing import Any, cast

import pytest
from aio_pika.exceptions import AMQPConnectionError
from faststream.rabbit import RabbitBroker, RabbitQueue

from app.worker.held import MAX_EXTRA_CONSUMERS, ExtraConsumers, HeldMessages
from tests.unit.recorded import Log

QUEUE = "metadata.requests"
PREFETCH = 4


class FakeQueue:
    """A declared queue, its channel and that channel's underlay in one."""

    def __init__(self) -> None:
        self.name = QUEUE
        self.consumers: dict[str, Any] = {"the-first": None}
        self.robust: set[bool] = set()
        self.fault: Exception | None = None

    @property
    def channel(self) -> "FakeQueue":
        return self

    async def get_underlay_channel(self) -> "FakeQueue":
        if self.fault is not None:
            raise self.fault
        return self

    async def consume(self, callback: Any, *, consumer_tag: str, robust: bool) -> None:
        self.consumers[consumer_tag] = callback
        self.robust.add(robust)

    async def cancel(self, tag: str) -> None:
        del self.consumers[tag]

    @property
    def extra(self) -> int:
        return len(self.consumers) - 1


class FakeBroker:
    """A broker with one subscriber."""

    def __init__(self, queue: FakeQueue) -> None:
        self._queue = queue
        self.queue = RabbitQueue(QUEUE)
        self.subscribers = [self]

    async def declare_queue(self, queue: RabbitQueue) -> FakeQueue:
        assert queue is self.queue
        return self._queue

    async def consume(self, _message: Any) -> None:
        """Stand in for what FastStream does with a delivery."""


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def consumers(queue: FakeQueue) -> ExtraConsumers:
    return ExtraConsumers(cast("RabbitBroker", FakeBroker(queue)), prefetch=PREFETCH)


@pytest.mark.parametrize(
    ("held", "extra"),
    [(1, 0), (2, 1), (4, 1), (5, 1), (6, 2), (10, 3), (1000, MAX_EXTRA_CONSUMERS)],
)
async def test_at_least_half_a_prefetch_is_free_beside_held_messages(
    consumers: ExtraConsumers, queue: FakeQueue, held: int, extra: int
) -> None:
    await consumers.adjust(QUEUE, held=held)
    assert queue.extra == extra


async def test_extra_consumers_stay_until_nothing_is_held(
    consumers: ExtraConsumers, queue: FakeQueue
) -> None:
    for held, extra in [(4, 1), (9, 2), (5, 2), (12, 3), (1, 3), (0, 0), (4, 1)]:
        await consumers.adjust(QUEUE, held=held)
        assert queue.extra == extra


async def test_an_extra_consumer_that_the_broker_has_cancelled_is_replaced(
    consumers: ExtraConsumers, queue: FakeQueue
) -> None:
    await consumers.adjust(QUEUE, held=8)
    del queue.consumers[f"{QUEUE}.extra.0"]
    await consumers.adjust(QUEUE, held=8)
    assert queue.extra == 2


async def test_extra_consumers_are_not_restored_after_a_reconnection(
    consumers: ExtraConsumers, queue: FakeQueue
) -> None:
    await consumers.adjust(QUEUE, held=8)
    assert queue.robust == {False}


async def test_a_lost_connection_is_logged(
    consumers: ExtraConsumers, queue: FakeQueue, log: Log
) -> None:
    queue.fault = AMQPConnectionError("gone")
    await consumers.adjust(QUEUE, held=8)
    assert log.one("consumers_not_adjusted")["reason"] == "AMQPConnectionError"


async def test_messages_are_counted_as_held_within_their_block(
    consumers: ExtraConsumers, queue: FakeQueue
) -> None:
    held = HeldMessages(consumers)
    async with held.holding(QUEUE), held.holding(QUEUE):
        assert held.any
        assert queue.extra == 0
        await held.make_room(QUEUE)
        assert queue.extra == 1
    assert not held.any
    assert queue.extra == 0


async def test_a_block_that_fails_holds_nothing_any_more(consumers: ExtraConsumers) -> None:
    held = HeldMessages(consumers)
    with pytest.raises(ConnectionError):
        async with held.holding(QUEUE):
            raise ConnectionError
    assert not held.any
