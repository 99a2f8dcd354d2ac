"""The message contracts in `asyncapi/`: valid AsyncAPI, and compatible with the last release."""

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from dev.compatibility import breaking_changes
from dev.specs import FOLDER, INTENDED, RELEASED

# As published in @asyncapi/specs, under the Apache License 2.0.
META_SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.json")

Document = dict[str, Any]
Change = Callable[[Document], object]


@cache
def document(path: Path) -> Document:
    """Return a document of the repository. Only read it: all tests get the same one."""
    loaded: Document = yaml.safe_load(path.read_text())
    return loaded


@pytest.fixture(scope="module")
def asyncapi() -> Draft7Validator:
    return Draft7Validator(json.loads(META_SCHEMA.read_text()))


@pytest.fixture
def released() -> Document:
    return copy.deepcopy(document(RELEASED / "worker.yaml"))


@pytest.fixture
def now() -> Document:
    """Today's document, for what the last release did not have."""
    return document(FOLDER / "worker.yaml")


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_document_is_valid_asyncapi(asyncapi: Draft7Validator, path: Path) -> None:
    asyncapi.validate(document(path))


def test_an_invalid_document_is_noticed(asyncapi: Draft7Validator, released: Document) -> None:
    released["channels"]["requests"]["bindings"]["amqp"]["is"] = "topic"
    assert not asyncapi.is_valid(released)


def test_only_intended_changes_since_the_last_release_break_the_contract() -> None:
    """A line in the file of intended changes says that breaking others is on purpose."""
    found = [
        change
        for name in ("api.yaml", "worker.yaml")
        for change in breaking_changes(document(RELEASED / name), document(FOLDER / name))
    ]
    assert sorted(set(found)) == sorted(INTENDED.read_text().splitlines())


def payload(document: Document) -> Any:
    return document["components"]["schemas"]["MetadataRequested"]


def message(document: Document) -> Any:
    return document["components"]["messages"]["MetadataRequestedAgain"]


def queue(document: Document, channel: str = "requests") -> Any:
    return document["channels"][channel]["bindings"]["amqp"]


BREAKING: dict[str, tuple[Change, str]] = {
    "a field is removed": (
        lambda it: payload(it)["properties"].pop("attempt"),
        "metadata.requests: payload.attempt is gone",
    ),
    "a field is renamed": (
        lambda it: payload(it)["properties"].update(
            page_url=payload(it)["properties"].pop("url"),
        ),
        "metadata.requests: payload.url is gone",
    ),
    "a type is narrowed": (
        lambda it: payload(it)["properties"]["url"].update(maxLength=255),
        "metadata.requests: payload.url.maxLength was 2083, now 255",
    ),
    "a type is widened": (
        lambda it: payload(it)["properties"]["attempt"].update(type=["integer", "null"]),
        "metadata.requests: payload.attempt.type was 'integer', now ['integer', 'null']",
    ),
    "an optional field becomes required": (
        lambda it: payload(it)["required"].append("attempt"),
        "metadata.requests: payload.attempt is required now",
    ),
    "a required field is added": (
        lambda it: (
            payload(it)["properties"].update(priority={"type": "integer"}),
            payload(it)["required"].append("priority"),
        ),
        "metadata.requests: payload.priority is required now",
    ),
    "a required field becomes optional": (
        lambda it: payload(it)["required"].remove("requested_at"),
        "metadata.requests: payload.requested_at is optional now",
    ),
    "unknown fields are refused": (
        lambda it: payload(it).update(additionalProperties=False),
        "metadata.requests: payload.additionalProperties was None, now False",
    ),
    "a header is removed": (
        lambda it: message(it)["headers"]["properties"].pop("x-deferrals"),
        "metadata.retries: headers.x-deferrals is gone",
    ),
    "a property has another value": (
        lambda it: message(it)["x-amqp-properties"]["properties"]["type"].update(const="Retry"),
        "metadata.retries: x-amqp-properties.type.const was 'MetadataRequested', now 'Retry'",
    ),
    "a message has another content type": (
        lambda it: message(it).update(contentType="application/cbor"),
        "metadata.retries: contentType was 'application/json', now 'application/cbor'",
    ),
    "a queue argument is changed": (
        lambda it: queue(it)["x-queue-arguments"].update({"x-max-length": 500}),
        "metadata.requests.x-queue-arguments.x-max-length was 1000, now 500",
    ),
    "a queue argument is added": (
        lambda it: queue(it, "deadLetters")["x-queue-arguments"].update({"x-max-length": 5}),
        "metadata.dead.x-queue-arguments.x-max-length was None, now 5",
    ),
    "a queue is of another type": (
        lambda it: queue(it)["x-queue-arguments"].update({"x-queue-type": "classic"}),
        "metadata.requests.x-queue-arguments.x-queue-type was 'quorum', now 'classic'",
    ),
    "a queue has another name": (
        lambda it: it["channels"]["retries"].update(address="metadata.again"),
        "metadata.retries: the queue is gone",
    ),
    "another kind of message is added to a queue": (
        lambda it: it["channels"]["retries"]["messages"].update(Other={"$ref": "#/x"}),
        "metadata.retries: messages.Other was None, now {'$ref': '#/x'}",
    ),
    "an operation is removed": (
        lambda it: it["operations"].pop("retryIn5s"),
        "retryIn5s: the operation is gone",
    ),
    "an operation changes its direction": (
        lambda it: it["operations"]["retryIn5s"].update(action="receive"),
        "retryIn5s: action was 'send', now 'receive'",
    ),
    "a message is no longer mandatory": (
        lambda it: it["operations"]["retryIn5s"]["bindings"]["amqp"].pop("mandatory"),
        "retryIn5s: bindings.amqp.mandatory was True, now None",
    ),
}

HARMLESS: dict[str, Change] = {
    "nothing": lambda _: None,
    "an optional field is added": lambda it: payload(it)["properties"].update(
        priority={"type": "integer"}
    ),
    "an optional header is added": lambda it: message(it)["headers"]["properties"].update(
        {"x-priority": {"type": "integer"}}
    ),
    "the text of a field is changed": lambda it: payload(it)["properties"]["url"].update(
        title="URL", description="A page", examples=["https://example.org/"]
    ),
    "the text of an operation is changed": lambda it: it["operations"]["retryIn5s"].update(
        title="Again", summary="Soon.", description="In five seconds."
    ),
    "a queue and its operation are added": lambda it: (
        it["channels"].update(
            more={**copy.deepcopy(it["channels"]["requests"]), "address": "metadata.more"}
        ),
        it["operations"].update(more={"action": "send", "channel": {"$ref": "#/channels/more"}}),
    ),
    "another version": lambda it: it["info"].update(version="0.2.0"),
    "another server": lambda it: it["servers"]["rabbitmq"].update(host="broker.example"),
}


@pytest.mark.parametrize(("change", "says"), BREAKING.values(), ids=BREAKING.keys())
def test_a_breaking_change_is_reported(released: Document, change: Change, says: str) -> None:
    current = copy.deepcopy(released)
    change(current)
    assert says in breaking_changes(released, current)


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_compatible_change_is_not_reported(released: Document, change: Change) -> None:
    current = copy.deepcopy(released)
    change(current)
    assert breaking_changes(released, current) == []


# --- Events, and channels with a parameter, which the last release did not have ---


def event(document: Document) -> Any:
    return document["components"]["schemas"]["PageEventMessage"]


def data(document: Document) -> Any:
    return document["components"]["schemas"]["EventData"]


def exchange(document: Document, channel: str = "pageFailed") -> Any:
    return document["channels"][channel]["bindings"]["amqp"]["exchange"]


def by_delay(document: Document) -> Any:
    return document["channels"]["retriesLater"]["bindings"]["amqp"]["x-queue-arguments-by-delay"]


def delays(document: Document) -> Any:
    return document["channels"]["retriesLater"]["parameters"]["delay"]["enum"]


BREAKING_NOW: dict[str, tuple[Change, str]] = {
    "a field of the event is removed": (
        lambda it: event(it)["properties"].pop("subject"),
        "page.failed: payload.subject is gone",
    ),
    "a field of its data is removed": (
        lambda it: data(it)["properties"].pop("final_url"),
        "page.completed: payload.data.final_url is gone",
    ),
    "a field of its error is removed": (
        lambda it: it["components"]["schemas"]["EventError"]["properties"].pop("kind"),
        "page.failed: payload.data.error.kind is gone",
    ),
    "a field of the data is checked in another way": (
        lambda it: data(it)["properties"]["url"].update(anyOf=[{"minLength": 1}]),
        "page.completed: payload.data.url.anyOf was [], now [{'minLength': 1}]",
    ),
    "a field of the data has another type": (
        lambda it: data(it)["properties"]["status_code"]["anyOf"][0].update(type="string"),
        "page.completed: payload.data.status_code.type was 'integer', now 'string'",
    ),
    "the type of an event has another version": (
        lambda it: it["components"]["messages"]["PageFailed"]["bindings"]["amqp"].update(
            messageType="v2"
        ),
        "page.failed: bindings.amqp.messageType was 'page-metadata.page.failed.v1', now 'v2'",
    ),
    "the events have another content type": (
        lambda it: it["components"]["messages"]["PageFailed"].update(contentType="text/plain"),
        "page.failed: contentType was 'application/cloudevents+json', now 'text/plain'",
    ),
    "the exchange is of another type": (
        lambda it: exchange(it).update(type="fanout"),
        "page.failed.exchange.type was 'topic', now 'fanout'",
    ),
    "the exchange has another name": (
        lambda it: exchange(it).update(name="metadata.news"),
        "page.failed.exchange.name was 'metadata.events', now 'metadata.news'",
    ),
    "the exchange is not durable any more": (
        lambda it: exchange(it).update(durable=False),
        "page.failed.exchange.durable was True, now False",
    ),
    "a routing key is removed": (
        lambda it: (it["channels"].pop("pageUnchanged"), it["operations"].pop("tellPageUnchanged")),
        "page.unchanged: the routing key is gone",
    ),
    "a routing key is changed": (
        lambda it: it["channels"]["pageUnchanged"].update(address="page.same"),
        "page.unchanged: the routing key is gone",
    ),
    "a value of a parameter is removed": (
        lambda it: delays(it).remove("30s"),
        "metadata.retry.30s: the queue is gone",
    ),
    "an argument differs for one value of a parameter": (
        lambda it: by_delay(it)["2m"].update({"x-message-ttl": 1}),
        "metadata.retry.2m.x-queue-arguments.x-message-ttl was 120000, now 1",
    ),
    "an argument differs for every value of a parameter": (
        lambda it: queue(it, "retriesLater")["x-queue-arguments"].update({"x-max-length": 5}),
        "metadata.retry.10m.x-queue-arguments.x-max-length was None, now 5",
    ),
    "an operation has another channel": (
        lambda it: it["operations"]["tellPageFailed"]["channel"].update(
            {"$ref": "#/channels/pageDeleted"}
        ),
        "tellPageFailed: address was 'page.failed', now 'page.deleted'",
    ),
}

HARMLESS_NOW: dict[str, Change] = {
    "a field of the event is added": lambda it: event(it)["properties"].update(
        traceparent={"type": "string"}
    ),
    "a field of its data is added": lambda it: data(it)["properties"].update(
        host={"type": "string"}
    ),
    "a field of its error is added": lambda it: it["components"]["schemas"]["EventError"][
        "properties"
    ].update(advice={"type": "string"}),
    "the text of a field of its data is changed": lambda it: data(it)["properties"]["url"].update(
        title="URL", description="A page"
    ),
    "a schema has another name": lambda it: (
        it["components"]["schemas"].update(Data=data(it)),
        event(it)["properties"].update(data={"$ref": "#/components/schemas/Data"}),
    ),
    "a value of a parameter is added": lambda it: (
        delays(it).append("1h"),
        by_delay(it).update({"1h": {"x-message-ttl": 3_600_000}}),
    ),
}


@pytest.mark.parametrize(("change", "says"), BREAKING_NOW.values(), ids=BREAKING_NOW.keys())
def test_a_breaking_change_of_what_is_new_is_reported(
    now: Document, change: Change, says: str
) -> None:
    current = copy.deepcopy(now)
    change(current)
    assert says in breaking_changes(now, current)


@pytest.mark.parametrize("change", HARMLESS_NOW.values(), ids=HARMLESS_NOW.keys())
def test_a_compatible_change_of_what_is_new_is_not_reported(now: Document, change: Change) -> None:
    current = copy.deepcopy(now)
    change(current)
    assert breaking_changes(now, current) == []


def test_a_channel_for_each_delay_is_the_same_as_one_with_a_parameter(
    released: Document, now: Document
) -> None:
    changes = breaking_changes(released, now)
    assert [change for change in changes if change.startswith("metadata.retry.")] == []
    assert {"metadata.retry.5s", "metadata.retry.10m"} <= {
        channel["address"] for channel in released["channels"].values()
    }
