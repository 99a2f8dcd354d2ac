"""Finds the changes of a message contract that break the programs of others.

Others may publish the messages or consume them. Removing a field breaks consumers, requiring a new
one breaks publishers, and checking a value differently breaks one side or the other. Compatible
changes are therefore additions that are optional, and changes of texts.

A channel with a parameter stands for one channel for each of its values. So it makes no difference
whether a document has a channel `metadata.retry.{delay}` or one for each delay.
"""

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

TEXTS = {"title", "description", "examples"}
"""The parts of a schema that only people read."""


def breaking_changes(released: Document, current: Document) -> list[str]:
    """Return one line for each change that breaks a program built on the released document."""
    return [*_channel_changes(released, current), *_operation_changes(released, current)]


def _channel_changes(released: Document, current: Document) -> Iterator[str]:
    channels = _channels(current)
    for name, old in _channels(released).items():
        new = channels.get(name)
        if new is None:
            yield f"{name}: the {_KINDS[old['bindings']['amqp']['is']]} is gone"
            continue
        yield from _differences(name, old["bindings"]["amqp"], new["bindings"]["amqp"])
        yield from _differences(f"{name}: messages", old["messages"], new["messages"])
        for message in old["messages"].keys() & new["messages"].keys():
            yield from _message_changes(
                name, _message(released, message), _message(current, message)
            )


_KINDS = {"queue": "queue", "routingKey": "routing key"}


def _channels(document: Document) -> dict[str, Document]:
    """Return the channels by their addresses, without parameters."""
    each = (it for channel in document["channels"].values() for it in _without_parameters(channel))
    return {channel["address"]: channel for channel in each}


def _without_parameters(channel: Document) -> Iterator[Document]:
    """Yield the channel itself, or one channel for each value of its parameter."""
    parameters = channel.get("parameters", {})
    if not parameters:
        yield channel
    for name, parameter in parameters.items():
        for value in parameter["enum"]:
            binding = _binding_for(channel["bindings"]["amqp"], name, value)
            one = {**channel, "bindings": {"amqp": binding}}
            yield {**one, "address": channel["address"].replace(f"{{{name}}}", value)}


def _binding_for(binding: Document, name: str, value: str) -> Document:
    """Return the binding of the queue that a value of the parameter stands for."""
    by_value = f"x-queue-arguments-by-{name}"
    queue = {**binding["queue"], "name": binding["queue"]["name"].replace(f"{{{name}}}", value)}
    arguments = {**binding["x-queue-arguments"], **binding[by_value][value]}
    one = {**binding, "queue": queue, "x-queue-arguments": arguments}
    return {key: part for key, part in one.items() if key != by_value}


def _message(document: Document, name: str) -> Document:
    message: Document = document["components"]["messages"][name]
    schemas = document["components"]["schemas"]
    return {**message, "payload": _resolved(message["payload"], schemas)}


def _resolved(node: Any, schemas: Document) -> Any:
    """Return the schema with what it refers to in place of each reference."""
    if isinstance(node, list):
        return [_resolved(item, schemas) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(schemas[node["$ref"].rpartition("/")[2]], schemas)
    return {key: _resolved(value, schemas) for key, value in node.items()}


def _message_changes(queue: str, old: Document, new: Document) -> Iterator[str]:
    for part in ("contentType", "bindings", "correlationId"):
        yield from _differences(f"{queue}: {part}", _bare(old.get(part)), _bare(new.get(part)))
    for part in ("payload", "headers", "x-amqp-properties"):
        yield from _schema_changes(f"{queue}: {part}", old.get(part, {}), new.get(part, {}))


def _schema_changes(where: str, old: Document, new: Document) -> Iterator[str]:
    fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for name in fields:
        if name in new_fields:
            yield from _schema_changes(f"{where}.{name}", fields[name], new_fields[name])
        else:
            yield f"{where}.{name} is gone"
    required, now_required = set(old.get("required", [])), set(new.get("required", []))
    for name in sorted(now_required - required):
        yield f"{where}.{name} is required now"
    for name in sorted((required - now_required) & new_fields.keys()):
        yield f"{where}.{name} is optional now"
    yield from _alternative_changes(where, old.get("anyOf", []), new.get("anyOf", []))
    yield from _differences(where, _checks(old), _checks(new))


def _alternative_changes(where: str, old: list[Document], new: list[Document]) -> Iterator[str]:
    if len(old) == len(new):
        for one, other in zip(old, new, strict=True):
            yield from _schema_changes(where, one, other)
    else:
        yield from _differences(f"{where}.anyOf", _bare(old), _bare(new))


def _checks(schema: Document) -> Document:
    """Return the constraints on a value, without those that are compared by themselves."""
    bare: Document = _bare(schema)
    apart = {"properties", "required", "anyOf"}
    return {key: value for key, value in bare.items() if key not in apart}


def _bare(node: Any) -> Any:
    """Return the node without the texts for people."""
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in node.items() if key not in TEXTS}
    return node


def _differences(where: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(f"{where}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"{where} was {old!r}, now {new!r}"


def _operation_changes(released: Document, current: Document) -> Iterator[str]:
    for name, old in released["operations"].items():
        new = current["operations"].get(name)
        if new is None:
            yield f"{name}: the operation is gone"
            continue
        yield from _differences(f"{name}: action", old["action"], new["action"])
        addresses = (_address(released, old), _address(current, new))
        yield from _differences(f"{name}: address", *addresses)
        yield from _differences(f"{name}: bindings", old.get("bindings"), new.get("bindings"))


def _address(document: Document, operation: Document) -> str:
    channel = operation["channel"]["$ref"].rpartition("/")[2]
    address: str = document["channels"][channel]["address"]
    return address
