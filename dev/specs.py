"""The AsyncAPI documents in `asyncapi/`, as the code has them: `python -m dev.specs [--check]`."""

from pathlib import Path
from typing import Any

import yaml
from faststream.rabbit import RabbitBroker

from app.api.application import create_app as create_api
from app.broker.specification import api_specification, worker_specification
from app.settings import Settings
from app.worker.application import create_app as create_worker
from dev.generated import write_or_check
from dev.stack import ROOT

FOLDER = ROOT / "asyncapi"


def default_settings() -> Settings:
    """Return the settings as they are where nobody sets any."""
    defaults: dict[str, Any] = {
        name: field.default for name, field in Settings.model_fields.items()
    }
    return Settings.model_validate(defaults)


def documents() -> dict[Path, str]:
    """Return the text of each file."""
    settings = default_settings()
    worker = create_worker(settings).broker
    if not isinstance(worker, RabbitBroker):
        raise TypeError("the worker has no broker")
    return {
        FOLDER / "api.yaml": _as_yaml(api_specification(create_api(settings).state.broker)),
        FOLDER / "worker.yaml": _as_yaml(worker_specification(worker)),
    }


def _as_yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


if __name__ == "__main__":
    write_or_check(documents(), recipe="asyncapi")
