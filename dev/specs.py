"""The AsyncAPI documents in `asyncapi/`: `python -m dev.specs [--check | --release]`.

They are written as the code has them, or only compared, or kept as those of the last release, with
which later ones have to be compatible (`dev/compatibility.py`).
"""

import sys
from pathlib import Path
from typing import Any

from faststream.rabbit import RabbitBroker

from app.api.application import create_app as create_api
from app.assembly import assemble
from app.contract.documents import api_specification, as_yaml, worker_specification
from app.runtime.settings import Settings
from app.worker.application import create_app as create_worker
from dev.generated import write_or_check
from dev.stack import ROOT

FOLDER = ROOT / "asyncapi"
RELEASED = FOLDER / "released"


def default_settings() -> Settings:
    """Return the settings as they are where nobody sets any."""
    defaults: dict[str, Any] = {
        name: field.default for name, field in Settings.model_fields.items()
    }
    return Settings.model_validate(defaults)


def documents() -> dict[Path, str]:
    """Return the text of each file, from the two applications as they are built."""
    settings = default_settings()
    topology = assemble(settings, service_name="specs").topology
    api = create_api(settings).state.broker
    worker = create_worker(settings).broker
    if not isinstance(worker, RabbitBroker):
        raise TypeError("the worker has no broker")
    return {
        FOLDER / "api.yaml": as_yaml(api_specification(api, topology)),
        FOLDER / "worker.yaml": as_yaml(worker_specification(worker, topology)),
    }


def main() -> None:
    """Write or compare the documents of the code, or keep them as released."""
    files = documents()
    if "--release" in sys.argv[1:]:
        files |= {RELEASED / path.name: text for path, text in files.items()}
    write_or_check(files, recipe="asyncapi")


if __name__ == "__main__":
    main()
