"""The AsyncAPI documents of both processes, as one would have written them by hand.

FastStream generates a document from a broker: which operations there are, on which queues, with
which payload, on which server. What it has no words for is added here: names and texts
(`descriptions.py`), the queues as `topology.py` declares them, the properties and headers of a
message, and the dead letters, which the broker sends on a worker's behalf.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from faststream.rabbit import RabbitBroker, RabbitMessage, RabbitQueue
from faststream.specification import AsyncAPI

from app import __version__
from app.broker.messages import CONTENT_TYPE, DEFERRALS_HEADER, MESSAGE_TYPE, MetadataRequested
from app.broker.operations import retry_destinations, subscribe
from app.broker.topology import Topology, delay_label
from app.contract import texts as words
from app.contract.texts import Text

Document = dict[str, Any]

BINDING_VERSION = {"bindingVersion": "0.3.0"}
LICENSE = {"name": "MIT", "url": "https://opensource.org/license/mit"}
SERVER = "rabbitmq"


def api_specification(broker: RabbitBroker, topology: Topology) -> Document:
    """Describe what the API sends."""
    return _document(broker, topology, words.API, name="api")


def worker_specification(broker: RabbitBroker, topology: Topology) -> Document:
    """Describe what a worker receives and sends."""
    # FastStream knows nothing of a message that is rejected.
    rejected = _Operation("rejectMessage", "send", "Put a message aside that can't be handled.", {})
    more = {topology.dead.name: rejected}
    return _document(broker, topology, words.WORKER, name="worker", more=more)


class Documents:
    """Both documents, for a process that is only one of the two; made when first asked for."""

    def __init__(self, broker: RabbitBroker, topology: Topology) -> None:
        self._broker = broker
        self._topology = topology

    @cached_property
    def api(self) -> Document:
        """The document of the API, whose broker this is."""
        return api_specification(self._broker, self._topology)

    @cached_property
    def worker(self) -> Document:
        """The document of a worker with the same settings."""
        # It has declared what a worker declares, and never connects.
        (url,) = self._broker.specification.url
        broker = RabbitBroker(specification_url=url)
        subscribe(broker, self._topology, _never, qos=1)
        retry_destinations(broker, self._topology)
        return worker_specification(broker, self._topology)


async def _never(_body: MetadataRequested, _message: RabbitMessage) -> None:
    raise NotImplementedError


def as_yaml(document: Document) -> str:
    """Return the document as a person would lay it out."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write what occurs twice in full, both times."""
        del data
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


# --- A document, from what FastStream generates ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """What a queue is in the documents: a channel, with the one kind of message it carries."""

    channel: str
    text: Text
    message: str
    queue: RabbitQueue
    delay: str = ""


def _places(topology: Topology) -> Iterator[_Place]:
    yield _Place("requests", words.REQUESTS, "MetadataRequested", topology.requests)
    yield _Place("retries", words.RETRIES, "MetadataRequestedAgain", topology.retries)
    for seconds, queue in topology.retry_delays.items():
        delay = delay_label(seconds)
        yield _Place(f"retriesIn{delay}", words.DELAY, "MetadataRequestedAgain", queue, delay)
    yield _Place("deadLetters", words.DEAD_LETTERS, "DeadLetter", topology.dead)


@dataclass(frozen=True, slots=True)
class _Operation:
    """What a process does with a queue."""

    name: str
    action: str
    summary: str
    binding: Document


def _document(
    broker: RabbitBroker,
    topology: Topology,
    text: Text,
    *,
    name: str,
    more: dict[str, _Operation] | None = None,
) -> Document:
    names = {
        "requests": topology.requests.name,
        "retries": topology.retries.name,
        "dead": topology.dead.name,
    }
    generated = _generate(broker, text.naming(names), name)
    operations = _operations(generated) | (more or {})
    places = [it for it in _places(topology) if it.queue.name in operations]
    done = [(operations[it.queue.name], it) for it in places]
    vhost = _vhost(generated)
    return generated | {
        "servers": {SERVER: next(iter(generated["servers"].values())) | _SERVER},
        "channels": {it.channel: _channel(it, names, vhost) for it in places},
        "operations": {operation.name: _operation(operation, it) for operation, it in done},
        "components": {
            "messages": _messages(generated, places),
            "schemas": generated["components"]["schemas"],
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _generate(broker: RabbitBroker, text: Text, name: str) -> Document:
    generated: Document = (
        AsyncAPI(
            broker,
            title=text.title,
            version=__version__,
            description=text.description,
            license=LICENSE,
            identifier=f"urn:page-metadata:{name}",
            tags=[{"name": tag, "description": what} for tag, what in words.TAGS.items()],
            schema_version="3.0.0",
        )
        .to_specification()
        .to_jsonable()
    )
    first = ("asyncapi", "id", "info")
    return {key: generated[key] for key in (*first, *generated)}


def _operations(generated: Document) -> dict[str, _Operation]:
    """Return what FastStream has found, by the name of the queue."""
    found = {}
    for name, operation in generated["operations"].items():
        channel = generated["channels"][_last_part(operation["channel"])]
        found[channel["address"]] = _Operation(
            name, operation["action"], channel["description"], _binding(operation)
        )
    return found


def _binding(operation: Document) -> Document:
    """Return what there is to say: FastStream's `cc`, and `ack` of what is sent, mean nothing."""
    found = operation["bindings"]["amqp"]
    if operation["action"] == "receive":
        return {"ack": found["ack"]}
    # FastStream dates what it sends, on its own.
    return {key: found[key] for key in ("deliveryMode", "mandatory")} | {"timestamp": True}


def _vhost(generated: Document) -> str:
    binding = next(iter(generated["channels"].values()))["bindings"]["amqp"]
    vhost: str = (binding.get("queue") or binding["exchange"])["vhost"]
    return vhost


def _last_part(reference: dict[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _reference(*parts: str) -> dict[str, str]:
    return {"$ref": "/".join(("#", *parts))}


# --- Its parts ------------------------------------------------------------------------------------

_SERVER = {
    "title": "RabbitMQ",
    "description": "The broker, RabbitMQ 3.10 or newer. Whoever runs it hands out the credentials.",
    "security": [_reference("components", "securitySchemes", "credentials")],
}
_SECURITY_SCHEMES = {
    "credentials": {"type": "userPassword", "description": "A user of the broker (AMQP PLAIN)."}
}


def _channel(place: _Place, names: dict[str, str], vhost: str) -> Document:
    text = place.text.naming(names | {"delay": place.delay}).as_dict()
    queue = place.queue
    arguments = dict(queue.arguments or {})
    rows = [(f"`{key}`", _value(value), words.ARGUMENTS[key]) for key, value in arguments.items()]
    table = _table(("argument", "value", "meaning"), rows)
    lasting = "It is durable." if queue.durable else "It is gone after the broker restarts."
    binding = {
        "is": "queue",
        "queue": {
            "name": queue.name,
            "durable": queue.durable,
            "exclusive": queue.exclusive,
            "autoDelete": queue.auto_delete,
            "vhost": vhost,
        },
        "x-queue-arguments": arguments,
        **BINDING_VERSION,
    }
    return {
        "address": queue.name,
        **text,
        "description": f"{text['description']}\n\nThe queue `{queue.name}`. {lasting}\n\n{table}",
        "servers": [_reference("servers", SERVER)],
        "messages": {place.message: _reference("components", "messages", place.message)},
        "bindings": {"amqp": binding},
    }


def _operation(operation: _Operation, place: _Place) -> Document:
    text = words.OPERATIONS.get(operation.name, words.RETRY).naming({"delay": place.delay})
    return {
        "action": operation.action,
        "channel": _reference("channels", place.channel),
        **text.as_dict(),
        "summary": operation.summary,
        "messages": [_reference("channels", place.channel, "messages", place.message)],
        "bindings": {"amqp": operation.binding | BINDING_VERSION},
    }


def _messages(generated: Document, places: Iterable[_Place]) -> Document:
    (schema,) = generated["components"]["schemas"].values()
    payload = {name: field["examples"][0] for name, field in schema["properties"].items()}
    made = {
        "MetadataRequested": _request(words.MESSAGE, [_example("Request", payload)], words.HEADERS),
        "MetadataRequestedAgain": _request(
            words.MESSAGE_AGAIN,
            [
                _example("SecondAttempt", payload | {"attempt": 2}),
                _example("PutOff", payload, {DEFERRALS_HEADER: 1}),
            ],
            words.DEFERRALS | words.HEADERS | words.DEATHS,
        ),
        "DeadLetter": {
            **words.DEAD_MESSAGE.as_dict(),
            "payload": words.DEAD_PAYLOAD.as_dict(),
            "headers": _object(words.DEATHS | words.HEADERS),
            "examples": [_example("NoRequest", {"url": payload["url"]}, words.DEATH_EXAMPLE)],
        },
    }
    return {it.message: {"name": it.message, **made[it.message]} for it in places}


def _request(text: Text, examples: list[Document], headers: Document) -> Document:
    properties = words.PROPERTIES["properties"].items()
    rows = [
        (f"`{key}`", _value(it.get("const", it.get("format", it.get("type")))), it["description"])
        for key, it in properties
    ]
    table = _table(("property", "value", "meaning"), rows)
    return {
        **text.as_dict(),
        "description": f"{text.description}\n\n{table}",
        "contentType": CONTENT_TYPE,
        "correlationId": {
            "description": "The `correlation_id` property repeats it.",
            "location": "$message.payload#/request_id",
        },
        "payload": _reference("components", "schemas", MetadataRequested.__name__),
        "headers": _object(headers),
        "examples": examples,
        "bindings": {"amqp": {"messageType": MESSAGE_TYPE, **BINDING_VERSION}},
        "x-amqp-properties": words.PROPERTIES,
    }


def _object(properties: Document) -> Document:
    return {"type": "object", "properties": properties}


def _example(name: str, payload: Document, headers: Document | None = None) -> Document:
    return {"name": name, **({"headers": headers} if headers else {}), "payload": payload}


def _value(value: object) -> str:
    return f"`{value}`" if value != "" else "(empty)"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, tuple("---" for _ in head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
