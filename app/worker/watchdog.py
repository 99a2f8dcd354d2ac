"""Notices that a worker is connected but is sent no messages, and has it connect again.

Consumers can be lost without an error (https://github.com/ag2ai/faststream/issues/2758): the
connection is open, the process looks healthy, and the queue grows.
"""

import asyncio
from collections import Counter
from functools import partial

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from loguru import logger

from app.broker.cluster import connection_error_if_closed
from app.broker.connection import BrokerConnection
from app.broker.queues import count_on
from app.runtime.repeating import repeat
from app.worker.handlers import MessageHandler

WATCH_INTERVAL_SECONDS = 10.0


class Watchdog:
    """Compares, at every interval, what waits in the queues with what has come from them."""

    def __init__(self, connection: BrokerConnection, handler: MessageHandler) -> None:
        self._connection = connection
        self._handler = handler
        self._received: Counter[str] = Counter()

    async def watch(self, interval_seconds: float = WATCH_INTERVAL_SECONDS) -> None:
        """Check the consumers at every interval, until cancelled."""
        check = partial(self._check, interval_seconds)
        await repeat(check, seconds=interval_seconds, failure="consumers_not_checked")

    async def _check(self, timeout_seconds: float) -> None:
        if not self._connection.is_ready or self._handler.stopping:
            return
        try:
            with connection_error_if_closed():
                async with asyncio.timeout(timeout_seconds):
                    lost = await self.queues_not_consumed()
        except CONNECTION_EXCEPTIONS as exc:
            logger.warning("consumers_not_checked", reason=type(exc).__name__)
            return
        self._received = self._handler.received.copy()
        if lost:
            logger.error("consumers_lost", queues=lost)
            self._connection.renew("consumers_lost")

    async def queues_not_consumed(self) -> list[str]:
        """Return the queues that have no consumer, or whose messages are not delivered."""
        names = [queue.name for queue in self._connection.topology.consumed]
        async with self._connection.channel() as channel:
            return [name for name in names if not await self._is_consumed(channel, name)]

    async def _is_consumed(self, channel: AbstractChannel, name: str) -> bool:
        counts = await count_on(channel, name)
        none_came = self._received[name] == self._handler.received[name]
        # A worker whose slots are all taken may well leave messages in the queue.
        is_stuck = bool(counts.messages) and none_came and not self._handler.is_busy
        return bool(counts.consumers) and not is_stuck
