"""The running service keeps to its published contracts."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aio_pika
import pytest
import yaml
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from jsonschema import Draft7Validator, FormatChecker

from app.broker.events import CONTENT_TYPE as EVENT_CONTENT_TYPE
from dev.specs import FOLDER
from dev.stack import Api, Worker
from tests.messages import publish
from tests.plain_http import CLIENT
from tests.service import Service, eventually, started
from tests.site import Site

DOCUMENT = yaml.safe_load((FOLDER / "worker.yaml").read_text())
MESSAGES = DOCUMENT["components"]["messages"]


@asynccontextmanager
async def a_channel(service: Service) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        yield await connection.channel(on_return_raises=True)


# --- What the service publishes ---


def only_message(service: Service, queue: str) -> AbstractIncomingMessage:
    """Wait for the only message of a queue and take it. The queue is named without its prefix."""
    eventually(lambda: service.queue(queue).ready, lambda ready: ready == 1)
    return asyncio.run(take(service, queue))


async def take(service: Service, name: str) -> AbstractIncomingMessage:
    async with a_channel(service) as channel:
        queue = await channel.declare_queue(f"{service.name}.{name}", passive=True)
        message = await queue.get(no_ack=True)
        assert message is not None
        return message


def check(schema: Any, value: Any) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft7Validator(whole, format_checker=FormatChecker()).validate(value)


def assert_is_as_described(message: AbstractIncomingMessage, name: str) -> Any:
    """Compare a message that the service has sent with everything its description says.

    Returns its body.
    """
    described = MESSAGES[name]
    body = json.loads(message.body)
    check(described["payload"], body)
    check_headers(described, message)
    sent = {
        "content_type": message.content_type,
        "delivery_mode": message.delivery_mode,
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "type": message.type,
        "timestamp": int(message.timestamp.timestamp()) if message.timestamp else None,
    }
    check(described["x-amqp-properties"], sent)
    assert message.content_type == described["contentType"]
    assert message.type == described["bindings"]["amqp"]["messageType"]
    assert message.correlation_id == correlated(described, body)
    return body


def correlated(described: Any, body: Any) -> Any:
    """Return what the correlation id of a message is to be, which has no request if it is null."""
    location = described["correlationId"]["location"].removeprefix("$message.payload#/")
    value = body
    for part in location.split("/"):
        value = value[part]
    return value or body["id"]


def check_headers(described: Any, message: AbstractIncomingMessage) -> None:
    headers = json.loads(json.dumps(message.headers, default=str))
    check({**described["headers"], "additionalProperties": False}, headers)


def test_a_request_from_the_api_is_as_described(service: Service) -> None:
    service.post(service.api().start(), "HTTPS://Example.com")
    assert_is_as_described(only_message(service, "requests"), "MetadataRequested")


def test_a_retry_from_a_worker_is_as_described(service: Service, site: Site) -> None:
    worker = service.worker(WORKER_RETRY_DELAYS_SECONDS="60").start()
    request(service, site.url("/status/503/retry"))
    worker.wait_for_event("metadata_retryable_failure")
    assert_is_as_described(only_message(service, "retry.1m"), "MetadataRequestedAgain")


def test_a_request_that_was_deferred_is_as_described(service: Service, site: Site) -> None:
    service.worker(WORKER_RETRY_DELAYS_SECONDS="60").start()
    service.mongodb.pause()
    try:
        request(service, site.url("/put-off"))
        message = only_message(service, "retry.1m")
    finally:
        service.mongodb.resume()
    assert_is_as_described(message, "MetadataRequestedAgain")
    assert message.headers["x-deferrals"] == 1


def test_a_retry_that_is_due_is_as_described(service: Service, site: Site) -> None:
    worker = service.worker(WORKER_RETRY_DELAYS_SECONDS="2").start()
    request(service, site.url("/status/503/due"))
    worker.wait_for_event("metadata_retryable_failure")
    worker.terminate()
    message = only_message(service, "retries")
    assert_is_as_described(message, "MetadataRequestedAgain")
    assert message.headers["x-first-death-queue"] == f"{service.name}.retry.2s"


def test_a_dead_letter_is_as_described(service: Service) -> None:
    service.worker().start()
    publish(service, [b'{"url": 7}'])
    message = only_message(service, "dead")
    check_headers(MESSAGES["DeadLetter"], message)
    assert message.headers["x-first-death-reason"] == "rejected"


def test_every_event_is_as_described(service: Service, site: Site) -> None:
    api, _ = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="1"))
    url, broken = site.url("/tagged/page"), "http://no-such-host.invalid/"
    events = [channel for channel in DOCUMENT["channels"].values() if is_routing_key(channel)]
    asyncio.run(bind(service, events))
    for _ in range(2):
        request_id = service.post(api, url).json()["request_id"]
        wait_until_completed(service, api, request_id)
    service.post(api, broken)
    service.ended(api, broken)
    CLIENT.delete(f"{api.url}/metadata", params={"url": url})
    for channel in events:
        (name,) = channel["messages"]
        body = assert_is_as_described(only_message(service, channel["address"]), name)
        subject = broken if name == "PageFailed" else url
        assert body["subject"] == body["data"]["url"] == subject
        assert CLIENT.get(f"{api.url}{body['data']['href']}").json()["url"] == subject


def is_routing_key(channel: Any) -> bool:
    return bool(channel["bindings"]["amqp"]["is"] == "routingKey")


async def bind(service: Service, channels: list[Any]) -> None:
    """Declare a queue for each routing key, named like it, and the exchange as it is published."""
    async with a_channel(service) as channel:
        for described in channels:
            published = described["bindings"]["amqp"]["exchange"]
            exchange = await channel.declare_exchange(
                published["name"].replace("metadata", service.name),
                published["type"],
                durable=published["durable"],
                auto_delete=published["autoDelete"],
            )
            queue = await channel.declare_queue(f"{service.name}.{described['address']}")
            await queue.bind(exchange, described["address"])


def wait_until_completed(service: Service, api: Api, request_id: str) -> None:
    eventually(
        lambda: service.request_state(api, request_id)["status"],
        lambda status: status == "COMPLETED",
    )


def request(service: Service, url: str) -> None:
    """Publish the example of a request with the URL of another page."""
    example = MESSAGES["MetadataRequested"]["examples"][0]
    body = json.dumps({**example["payload"], "url": url})
    asyncio.run(send(service, "requests", body, {}))


# --- What the service accepts ---


class Example(NamedTuple):
    message: str
    name: str
    queue: str


def examples() -> Iterator[Example]:
    for message, described in MESSAGES.items():
        if described.get("contentType") == EVENT_CONTENT_TYPE:
            continue  # no worker takes it
        queue = "retries" if message == "MetadataRequestedAgain" else "requests"
        for example in described["examples"]:
            yield Example(message, example["name"], queue)


@pytest.fixture(scope="module")
def worker(shared_service: Service) -> Worker:
    """A worker that may use no port: nothing is fetched, wherever the host of an example is."""
    return shared_service.worker(FETCH_ALLOWED_PORTS="1", FETCH_ALLOWED_NETWORKS="").start()


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_a_worker_accepts_every_example(
    shared_service: Service, worker: Worker, example: Example
) -> None:
    published = next(
        it for it in MESSAGES[example.message]["examples"] if it["name"] == example.name
    )
    headers, payload = published.get("headers", {}), published["payload"]
    ended, fields = "fetch_finished", {"request_id": payload.get("request_id")}
    if example.message == "DeadLetter":
        ended, fields = "message_dead_lettered", {}
    # The examples are of one request: none is to be answered by the one before it.
    shared_service.pages.delete_many({})
    before = len(worker.events(ended, **fields))
    asyncio.run(send(shared_service, example.queue, json.dumps(payload), headers))
    worker.wait_for_event(ended, count=before + 1, **fields)
    eventually(lambda: shared_service.queue(example.queue).ready, lambda ready: ready == 0)


async def send(service: Service, queue: str, body: str, headers: dict[str, Any]) -> None:
    async with a_channel(service) as channel:
        message = aio_pika.Message(body.encode(), headers=headers, content_type="application/json")
        await channel.default_exchange.publish(message, routing_key=f"{service.name}.{queue}")


# --- Using the service with nothing but its documents ---

AS_PUBLISHED = {
    "BROKER_QUEUE_NAME": "metadata.requests",
    "WORKER_RETRY_DELAYS_SECONDS": "5,30,120,600",
}


def test_the_documents_are_enough_to_request_a_page_and_read_its_retry(
    service: Service, site: Site
) -> None:
    url = site.url("/status/503/from-the-specs")
    service.worker(**AS_PUBLISHED).start()
    try:
        retry = run_from_the_specs(service, url)
        asyncio.run(declare_as_published(service))
        eventually(lambda: site.hits["/status/503/from-the-specs"], lambda hits: hits == 2)
    finally:
        asyncio.run(delete_published(service))
    assert (retry["url"], retry["attempt"]) == (url, 2)


def run_from_the_specs(service: Service, url: str) -> Any:
    """Run the script in a place where it can import nothing of the service."""
    script = str(Path(__file__).parents[1] / "from_the_specs.py")
    command = [sys.executable, "-I", script, str(FOLDER), service.rabbitmq.url, url]
    done = subprocess.run(command, cwd="/", capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def declare_as_published(service: Service) -> None:
    """Declare every queue with the published arguments; the broker would refuse any others."""
    async with a_channel(service) as channel:
        for queue in published_queues():
            await channel.declare_queue(
                queue.name, durable=queue.durable, arguments=queue.arguments
            )


class PublishedQueue(NamedTuple):
    name: str
    durable: bool
    arguments: dict[str, Any]


def published_queues() -> Iterator[PublishedQueue]:
    """Yield every queue of the document; a channel with a parameter has one for each value."""
    for described in DOCUMENT["channels"].values():
        if is_routing_key(described):
            continue
        binding = described["bindings"]["amqp"]
        durable, arguments = binding["queue"]["durable"], binding["x-queue-arguments"]
        for delay, more in binding.get("x-queue-arguments-by-delay", {"": {}}).items():
            name = described["address"].replace("{delay}", delay)
            yield PublishedQueue(name, durable, arguments | more)


async def delete_published(service: Service) -> None:
    """Delete what has default names, which other tests may declare differently."""
    async with a_channel(service) as channel:
        for queue in published_queues():
            await channel.queue_delete(queue.name)
        await channel.exchange_delete("metadata.events")
