"""The AsyncAPI documents of both processes.

FastStream generates a document from the publishers and subscribers of a broker: which operations a
process has, on which queues, with which payload, on which server. `overlay.yaml` adds what it
cannot know: texts, headers and examples. The arguments of the queues come from the topology.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from faststream.rabbit import RabbitBroker, RabbitMessage, RabbitQueue
from faststream.specification import AsyncAPI

from app import __version__
from app.broker.events import PageEventMessage
from app.broker.messages import MetadataRequested
from app.broker.operations import event_destinations, retry_destinations, subscribe
from app.broker.topology import Topology, delay_label
from app.contract.examples import EVENTS
from app.models import EventKind

JsonObject = dict[str, Any]

OVERLAY = Path(__file__).with_name("overlay.yaml")
SERVER = "rabbitmq"
TTL = "x-message-ttl"
BINDING_VERSION = {"bindingVersion": "0.3.0"}


def api_specification(broker: RabbitBroker, topology: Topology) -> JsonObject:
    """Describe what the API sends."""
    return _merged("api", _generated(broker), topology)


def worker_specification(
    consumer: RabbitBroker, publisher: RabbitBroker, topology: Topology
) -> JsonObject:
    """Describe what a worker receives, and what it sends over another connection."""
    generated = _generated(consumer, publisher)
    # The worker rejects a message and the broker moves it: no publisher tells FastStream of it.
    no_bindings: JsonObject = {"bindings": {"amqp": {}}}
    generated["operations"]["rejectMessage"] = {"action": "send", **no_bindings}
    generated["channels"]["rejectMessage"] = {"address": topology.dead.name, **no_bindings}
    return _merged("worker", generated, topology)


class Documents:
    """Both documents, for a process that is only one of the two. Each is built on first use.

    `tells`: whether events are published.
    """

    def __init__(self, broker: RabbitBroker, topology: Topology, *, tells: bool) -> None:
        self._broker = broker
        self._topology = topology
        self._tells = tells

    @cached_property
    def api(self) -> JsonObject:
        """The document of the API, whose broker this is."""
        return api_specification(self._broker, self._topology)

    @cached_property
    def worker(self) -> JsonObject:
        """The document of a worker with the same settings."""
        # Never connected: FastStream generates a document from a broker object alone.
        (url,) = self._broker.specification.url
        broker = RabbitBroker(specification_url=url)
        subscribe(broker, self._topology, _never, qos=1)
        retry_destinations(broker, self._topology)
        event_destinations(broker, self._topology, EventKind if self._tells else ())
        return worker_specification(broker, broker, self._topology)


async def _never(_body: MetadataRequested, _message: RabbitMessage) -> None:
    raise AssertionError("this broker is only described: it never connects")


# --- What FastStream knows, and what it cannot know -----------------------------------------------


def _generated(*brokers: RabbitBroker) -> JsonObject:
    specification = AsyncAPI(*brokers, schema_version="3.0.0").to_specification()
    document: JsonObject = specification.to_jsonable()
    return document


def _overlay(process: str, topology: Topology) -> JsonObject:
    """Read the overlay, with the names of these queues and an entry for each kind of event."""
    overlay: JsonObject = yaml.safe_load(OVERLAY.read_text("utf-8"))
    names = {
        "version": __version__,
        "requests": topology.requests.name,
        "retries": topology.retries.name,
        "retry": topology.retry_address,
        "dead": topology.dead.name,
        "events": topology.events.name,
        **overlay["processes"][process],
    }
    kinds = [
        {"kind": kind, "Kind": kind.capitalize(), "about": about}
        for kind, about in overlay["events"].items()
    ]
    for section in ("channels", "operations", "messages"):
        overlay[section] = dict(_for_each_kind(overlay[section], kinds))
    for event in EVENTS:
        name = f"Page{event.kind.capitalize()}"
        example = {"name": name, "payload": PageEventMessage.of(event).model_dump(mode="json")}
        overlay["messages"][name]["examples"] = [example]
    (delay,) = overlay["channels"]["retriesLater"]["parameters"].values()
    delay["enum"] = [delay_label(seconds) for seconds in topology.retry_delays]
    filled: JsonObject = _filled(overlay, names)
    return filled


def _for_each_kind(
    entries: JsonObject, kinds: list[dict[str, str]]
) -> Iterator[tuple[str, JsonObject]]:
    for name, entry in entries.items():
        for names in kinds if "{Kind}" in name else [{}]:
            yield _filled(name, names), _filled(entry, names)


def _filled(node: Any, names: dict[str, str]) -> Any:
    """Replace `{name}` by its value in every text below `node`; unknown names stay."""
    match node:
        case str():
            return re.sub(r"{(\w+)}", lambda found: names.get(found[1], found[0]), node)
        case list():
            return [_filled(item, names) for item in node]
        case dict():
            return {key: _filled(value, names) for key, value in node.items()}
    return node


# --- Merging the two ------------------------------------------------------------------------------


def _merged(process: str, generated: JsonObject, topology: Topology) -> JsonObject:
    overlay = _overlay(process, topology)
    (server,) = generated["servers"].values()
    generated = _with_one_retry_operation(generated, topology)
    bindings = _channel_bindings(generated, topology, vhost=server["pathname"])
    channel_of = _channel_names(generated, overlay)
    channels = {
        name: _channel(described, bindings[described["address"]], overlay["arguments"])
        for name, described in _only(channel_of.values(), overlay["channels"])
    }
    return {
        "asyncapi": generated["asyncapi"],
        "id": f"urn:page-metadata:{process}",
        "info": overlay["info"],
        "defaultContentType": generated["defaultContentType"],
        "servers": {SERVER: server | overlay["server"]},
        "channels": channels,
        "operations": {
            name: _operation(described, generated["operations"][name], channel_of[name], channels)
            for name, described in _only(channel_of, overlay["operations"])
        },
        "components": _components(generated, overlay, channels),
    }


def _with_one_retry_operation(generated: JsonObject, topology: Topology) -> JsonObject:
    """Replace the operations and channels of all delays by one, whose address has a parameter.

    The delays are a setting. A document in which the setting does not change the names of channels
    can be compared, and code generated from it stays the same.
    """
    addresses = {queue.name for queue in topology.retry_delays.values()}
    channels = generated["channels"]
    names = [name for name, it in channels.items() if it["address"] in addresses]
    if not names:
        return generated
    one = {
        "operations": generated["operations"][names[0]],
        "channels": channels[names[0]] | {"address": topology.retry_address},
    }
    return generated | {
        part: {name: it for name, it in generated[part].items() if name not in names}
        | {"retryLater": entry}
        for part, entry in one.items()
    }


def _channel_names(generated: JsonObject, overlay: JsonObject) -> dict[str, str]:
    """Return the channel of each operation, as the overlay calls it.

    FastStream gives a channel the name of its operation, so the address tells which one it is.
    """
    at_address = {channel["address"]: name for name, channel in overlay["channels"].items()}
    channels = generated["channels"]
    return {name: at_address[channels[name]["address"]] for name in generated["operations"]}


def _only(names: Iterable[str], entries: JsonObject) -> list[tuple[str, JsonObject]]:
    """Return the named entries in the order of the overlay, which must have all of them."""
    wanted = set(names)
    if missing := wanted - entries.keys():
        raise KeyError(f"not described in {OVERLAY.name}: {', '.join(sorted(missing))}")
    return [(name, entry) for name, entry in entries.items() if name in wanted]


def _channel_bindings(generated: JsonObject, topology: Topology, *, vhost: str) -> JsonObject:
    """Return the binding of each address: of our queues as declared, else as FastStream has it."""
    found = {it["address"]: it["bindings"]["amqp"] for it in generated["channels"].values()}
    ours = {queue.name: _queue_binding(queue, vhost) for queue in topology}
    retries = _retry_binding(topology, vhost)
    return found | ours | {retries["queue"]["name"]: retries}


def _queue_binding(queue: RabbitQueue, vhost: str) -> JsonObject:
    return {
        "is": "queue",
        "queue": {
            "name": queue.name,
            "durable": queue.durable,
            "exclusive": queue.exclusive,
            "autoDelete": queue.auto_delete,
            "vhost": vhost,
        },
        "x-queue-arguments": dict(queue.arguments or {}),
        **BINDING_VERSION,
    }


def _retry_binding(topology: Topology, vhost: str) -> JsonObject:
    """Return the binding of the retry queues. Each has a TTL of its own."""
    queues = {delay_label(seconds): queue for seconds, queue in topology.retry_delays.items()}
    binding = _queue_binding(next(iter(queues.values())), vhost)
    binding["queue"]["name"] = topology.retry_address
    del binding["x-queue-arguments"][TTL]
    by_delay = {label: {TTL: queue.arguments[TTL]} for label, queue in queues.items()}
    return binding | {"x-queue-arguments-by-delay": by_delay}


def _channel(described: JsonObject, binding: JsonObject, meanings: dict[str, str]) -> JsonObject:
    arguments = binding.get("x-queue-arguments", {})
    rows = [(name, value, meanings[name]) for name, value in arguments.items()]
    if by_delay := binding.get("x-queue-arguments-by-delay"):
        ttls = ", ".join(f"{delay}: {it[TTL]}" for delay, it in by_delay.items())
        rows.append((TTL, ttls, meanings[TTL]))
    messages = {name: _reference("components", "messages", name) for name in described["messages"]}
    return {
        **described,
        "description": _with_table(described["description"], "argument", rows),
        "servers": [_reference("servers", SERVER)],
        "messages": messages,
        "bindings": {"amqp": binding},
    }


def _operation(
    described: JsonObject, found: JsonObject, channel: str, channels: JsonObject
) -> JsonObject:
    messages = channels[channel]["messages"]
    return {
        "action": found["action"],
        "channel": _reference("channels", channel),
        **described,
        "messages": [_reference("channels", channel, "messages", name) for name in messages],
        "bindings": {"amqp": _operation_binding(found) | BINDING_VERSION},
    }


def _operation_binding(found: JsonObject) -> JsonObject:
    """Keep what matters: FastStream's `cc` repeats the address, and nobody acks what is sent."""
    binding = found["bindings"]["amqp"]
    if "deliveryMode" not in binding:
        return {key: binding[key] for key in ("ack",) if key in binding}
    # FastStream sets the timestamp of what it sends, but does not write so.
    return {key: binding[key] for key in ("deliveryMode", "mandatory")} | {"timestamp": True}


def _components(generated: JsonObject, overlay: JsonObject, channels: JsonObject) -> JsonObject:
    carried = [name for channel in channels.values() for name in channel["messages"]]
    return {
        "messages": {name: _message(name, it) for name, it in _only(carried, overlay["messages"])},
        # FastStream collects them in a set, so their order differs from process to process.
        "schemas": dict(sorted(generated["components"]["schemas"].items())),
        "securitySchemes": overlay["securitySchemes"],
    }


def _message(name: str, described: JsonObject) -> JsonObject:
    properties = described.get("x-amqp-properties", {}).get("properties", {})
    rows = [(key, _kind(schema), schema["description"]) for key, schema in properties.items()]
    text = _with_table(described["description"], "property", rows)
    return {"name": name, "title": described["title"], **described, "description": text}


def _kind(schema: JsonObject) -> object:
    return next(schema[key] for key in ("const", "format", "type") if key in schema)


def _reference(*parts: str) -> dict[str, str]:
    return {"$ref": "/".join(("#", *parts))}


def _with_table(text: str, what: str, rows: Sequence[tuple[str, object, str]]) -> str:
    """Append a Markdown table to the text, unless it has no rows."""
    if not rows:
        return text
    lines = [f"| `{name}` | {_shown(value)} | {meaning} |" for name, value, meaning in rows]
    return "\n".join([text, "", f"| {what} | value | meaning |", "| --- | --- | --- |", *lines])


def _shown(value: object) -> str:
    return f"`{value}`" if value != "" else "(empty)"


# --- As YAML --------------------------------------------------------------------------------------


def as_yaml(document: JsonObject) -> str:
    """Return the document laid out for a reader: long texts as blocks, nothing by reference."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write what occurs twice in full both times, not as an alias of the first."""
        del data
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
