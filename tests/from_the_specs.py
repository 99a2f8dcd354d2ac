"""What another team could write from the two documents alone: request a page, read its retry.

    python tests/from_the_specs.py asyncapi amqp://user:password@host/ https://example.com/

It prints the body of the retry and puts the retry back. It uses no code of the service.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import yaml
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from jsonschema import Draft7Validator, FormatChecker

DEADLINE_SECONDS = 30

DELAY = "5s"
"""The delay before the first retry, one of those that the document names."""


class Contract:
    """One of the two documents."""

    def __init__(self, path: Path) -> None:
        self._document = yaml.safe_load(path.read_text())

    def operation(self, name: str) -> Any:
        """Return an operation with its references followed."""
        return self._followed(self._document["operations"][name])

    def _followed(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._followed(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return self._followed(self._target(node["$ref"]))
        return {key: self._followed(value) for key, value in node.items()}

    def _target(self, reference: str) -> Any:
        target = self._document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        return target


def check(schema: Any, value: Any) -> None:
    """Raise `ValidationError` unless the value fits the schema."""
    Draft7Validator(schema, format_checker=FormatChecker()).validate(value)


async def declare(channel: AbstractChannel, operation: Any, delay: str = "") -> AbstractQueue:
    """Declare the queue of an operation; the broker refuses if an argument differs.

    Where the channel has the parameter `delay` there is a queue for each of its values.
    """
    binding = operation["channel"]["bindings"]["amqp"]
    by_delay = binding.get("x-queue-arguments-by-delay", {}).get(delay, {})
    return await channel.declare_queue(
        binding["queue"]["name"].replace("{delay}", delay),
        durable=binding["queue"]["durable"],
        exclusive=binding["queue"]["exclusive"],
        auto_delete=binding["queue"]["autoDelete"],
        arguments=binding["x-queue-arguments"] | by_delay,
    )


async def request(channel: AbstractChannel, operation: Any, url: str) -> str:
    """Publish a request for a page as the operation describes it. Returns the `request_id`."""
    (message,) = operation["messages"]
    request_id = str(uuid4())
    body = {
        "url": url,
        "request_id": request_id,
        "requested_at": datetime.now(UTC).isoformat(),
        "attempt": 1,
    }
    check(message["payload"], body)
    properties = message["x-amqp-properties"]["properties"]
    await channel.default_exchange.publish(
        aio_pika.Message(
            json.dumps(body).encode(),
            content_type=message["contentType"],
            type=message["bindings"]["amqp"]["messageType"],
            message_id=str(uuid4()),
            correlation_id=request_id,
            delivery_mode=properties["delivery_mode"]["const"],
            timestamp=datetime.now(UTC),
        ),
        routing_key=operation["channel"]["address"],
        mandatory=operation["bindings"]["amqp"]["mandatory"],
    )
    return request_id


async def see_retry(queue: AbstractQueue, operation: Any, request_id: str) -> Any:
    """Wait for the retry of the request and return its body. The message stays in the queue."""
    while True:
        message = await queue.get(fail=False)
        if message is not None:
            await message.nack(requeue=True)
            if message.correlation_id == request_id:
                return read(message, operation)
        await asyncio.sleep(0.05)


def read(message: AbstractIncomingMessage, operation: Any) -> Any:
    """Check a message against its description and return its body."""
    (described,) = operation["messages"]
    body = json.loads(message.body)
    check(described["payload"], body)
    check(described["headers"], dict(message.headers))
    properties = {
        "content_type": message.content_type,
        "delivery_mode": message.delivery_mode,
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "type": message.type,
        "timestamp": int(message.timestamp.timestamp()) if message.timestamp else None,
    }
    check(described["x-amqp-properties"], properties)
    return body


async def main(folder: Path, broker: str, url: str) -> None:
    """Request the page, then print its first retry."""
    api, worker = Contract(folder / "api.yaml"), Contract(folder / "worker.yaml")
    ask, retry = api.operation("requestMetadata"), worker.operation("retryLater")
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        await aio_pika.connect(broker) as connection,
        connection.channel(publisher_confirms=True, on_return_raises=True) as channel,
    ):
        await declare(channel, ask)
        delayed = await declare(channel, retry, DELAY)
        request_id = await request(channel, ask, url)
        print(json.dumps(await see_retry(delayed, retry, request_id)))  # noqa: T201 (its output)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:4]))
