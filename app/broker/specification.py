"""The AsyncAPI documents of both processes, generated from their brokers."""

from typing import Any

from faststream.rabbit import RabbitBroker
from faststream.specification import AsyncAPI

from app import __version__

_LICENSE = {"name": "MIT"}


def api_specification(broker: RabbitBroker) -> dict[str, Any]:
    """Describe what the API sends."""
    return _document(
        broker, title="Page metadata API", description="What the API asks its workers to do."
    )


def worker_specification(broker: RabbitBroker) -> dict[str, Any]:
    """Describe what a worker receives and sends."""
    return _document(
        broker,
        title="Page metadata worker",
        description="Fetches pages on request and asks for another attempt where one may help.",
    )


def _document(broker: RabbitBroker, *, title: str, description: str) -> dict[str, Any]:
    document: dict[str, Any] = (
        AsyncAPI(
            broker,
            title=title,
            version=__version__,
            description=description,
            license=_LICENSE,
            schema_version="3.0.0",
        )
        .to_specification()
        .to_jsonable()
    )
    return _in_order(document)


def _in_order(document: dict[str, Any]) -> dict[str, Any]:
    """Sort what FastStream keeps in a set, whose order is another one every time."""
    messages = dict(sorted(document["components"]["messages"].items()))
    parts = {part: dict(sorted(document[part].items())) for part in ("channels", "operations")}
    return {**document, **parts, "components": document["components"] | {"messages": messages}}
