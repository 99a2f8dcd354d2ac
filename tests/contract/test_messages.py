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
