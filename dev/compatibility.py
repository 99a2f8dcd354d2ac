"""Finds the changes of a message contract that break the programs of others.

Others may publish the messages or consume them. Removing a field breaks consumers, requiring a new
one breaks publishers, and checking a value differently breaks one side or the other. Compatible
changes are therefore additions that are optional, and changes of texts.
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
    queues = {channel["address"]: channel for channel in current["channels"].values()}
    for old in released["channels"].values():
        name = old["address"]
        new = queues.get(name)
        if new is None:
            yield f"{name}: the queue is gone"
            continue
        yield from _differences(name, old["bindings"]["amqp"], new["bindings"]["amqp"])
        yield from _differences(f"{name}: messages", old["messages"], new["messages"])
        for message in old["messages"].keys() & new["messages"].keys():
            yield from _message_changes(
                name, _message(released, message), _message(current, message)
            )


def _message(document: Document, name: str) -> Document:
    message: Document = document["components"]["messages"][name]
    schemas = document["components"]["schemas"]
    return {**message, "payload": _resolved(message["payload"], schemas)}


def _resolved(schema: Any, schemas: Document) -> Any:
    if "$ref" not in schema:
        return schema
    return schemas[schema["$ref"].rpartition("/")[2]]


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
    yield from _differences(where, _checks(old), _checks(new))


def _checks(schema: Document) -> Document:
    """Return the constraints on a value, without those on the fields of an object."""
    bare: Document = _bare(schema)
    return {key: value for key, value in bare.items() if key not in {"properties", "required"}}


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
        queues = (_queue(released, old), _queue(current, new))
        yield from _differences(f"{name}: queue", *queues)
        yield from _differences(f"{name}: bindings", old.get("bindings"), new.get("bindings"))


def _queue(document: Document, operation: Document) -> str:
    channel = operation["channel"]["$ref"].rpartition("/")[2]
    address: str = document["channels"][channel]["address"]
    return address
