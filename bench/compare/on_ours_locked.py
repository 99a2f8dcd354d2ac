"""The baseline of the publishers: ours, with a lock that is held until each confirm arrives."""

import asyncio

import uvloop

from bench.compare.on_ours import new_request, publishing
from bench.compare.sending import Sending


def send(sending: Sending) -> None:
    """Send from tasks; the lock lets one message at a time be under way."""
    uvloop.run(_send(sending))


async def _send(sending: Sending) -> None:
    lock = asyncio.Lock()
    async with publishing() as publisher:

        async def publish(url: str) -> None:
            async with lock:
                await publisher.publish(new_request(url))

        await sending.in_tasks(publish)
