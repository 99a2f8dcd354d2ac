"""Listens to the inventory of pages with aio-pika, from the AsyncAPI document alone.

    python listener.py worker.yaml amqp://guest:guest@localhost/ my-team.pages

It prints a line for each event, until SIGINT or SIGTERM. The document says what the exchange is,
which routing keys there are and what a message contains; a running API serves it, with its own
settings filled in, at `/asyncapi/worker.yaml`.
"""

import asyncio
import json
import signal
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aio_pika
import yaml
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

REMEMBERED = 10_000
"""How many ids are kept to recognise events that arrive again."""


@dataclass(frozen=True)
class Channel:
    """What the document says about one kind of event."""

    routing_key: str
    exchange: dict[str, Any]
    content_types: frozenset[str]


def channels(document: Any) -> Iterator[Channel]:
    """Yield the channels whose address is the routing key of an exchange."""
    for channel in document["channels"].values():
        binding = channel["bindings"]["amqp"]
        if binding["is"] == "routingKey":
            messages = (followed(document, message) for message in channel["messages"].values())
            types = frozenset(message["contentType"] for message in messages)
            yield Channel(channel["address"], binding["exchange"], types)


def followed(document: Any, node: Any) -> Any:
    """Return what a `$ref` refers to."""
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


async def declare(
    connection: AbstractChannel, described: list[Channel], queue_name: str
) -> AbstractQueue:
    """Declare the exchange as the document has it, and a queue of our own that is bound to it."""
    queue = await connection.declare_queue(
        queue_name,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            # Whoever is away for long loses the oldest events. `reject-publish` in place of
            # `drop-head` would lose the newest.
            "x-max-length": 100_000,
            "x-overflow": "drop-head",
            # A message that cannot be handled is tried again so often, and then dropped.
            "x-delivery-limit": 5,
        },
    )
    for channel in described:
        exchange = await connection.declare_exchange(
            channel.exchange["name"],
            channel.exchange["type"],
            durable=channel.exchange["durable"],
            auto_delete=channel.exchange["autoDelete"],
        )
        await queue.bind(exchange, channel.routing_key)
    return queue


class Listener:
    """Prints each event once, and acknowledges it then."""

    def __init__(self, described: list[Channel]) -> None:
        self._content_types = frozenset[str]().union(*(it.content_types for it in described))
        self._handled: OrderedDict[str, None] = OrderedDict()

    async def handle(self, message: AbstractIncomingMessage) -> None:
        """Handle a message. One that is no event as described is dropped, with a line that says so.

        The message is acknowledged at the end of the block, and returned to the queue if we are
        stopped in between.
        """
        async with message.process(requeue=True):
            if message.content_type not in self._content_types:
                print(f"dropped a message of type {message.content_type}", file=sys.stderr)
                return
            event = json.loads(message.body)
            if event["id"] in self._handled:
                return
            show(event)
            self._handled[event["id"]] = None
            if len(self._handled) > REMEMBERED:
                self._handled.popitem(last=False)


def show(event: dict[str, Any]) -> None:
    """Print one event."""
    time = datetime.fromisoformat(event["time"])
    kind = event["type"].removeprefix("page-metadata.page.").removesuffix(".v1")
    data = event["data"]
    detail = data["error"]["kind"] if data["error"] else data["title"] or ""
    print(f"{time:%H:%M:%S} {kind:9} {event['subject']} {detail}".rstrip(), flush=True)


async def listen(described: list[Channel], broker: str, queue_name: str) -> None:
    """Print the events, until cancelled."""
    listener = Listener(described)
    # `connect_robust` connects anew after a loss, and declares and consumes again.
    async with await aio_pika.connect_robust(broker) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        queue = await declare(channel, described, queue_name)
        await queue.consume(listener.handle)
        print(f"listening on {queue_name}", file=sys.stderr, flush=True)
        await asyncio.Event().wait()


async def main(described: list[Channel], broker: str, queue_name: str) -> None:
    """Listen, until SIGINT or SIGTERM."""
    listening = asyncio.create_task(listen(described, broker, queue_name))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, listening.cancel)
    with suppress(asyncio.CancelledError):
        await listening


if __name__ == "__main__":
    path, broker_url, own_queue = sys.argv[1:4]
    document = yaml.safe_load(Path(path).read_text())
    asyncio.run(main(list(channels(document)), broker_url, own_queue))
