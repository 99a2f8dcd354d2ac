"""The AsyncAPI documents in `asyncapi/`: `python -m dev.specs [--check | --release]`.

Without an option the documents are generated and written. `--check` only compares them with the
files. `--release` also keeps them as those of the last release, with which later documents have to
be compatible (`dev/compatibility.py`), except for the changes in `breaking-changes.txt`, which are
intended. A release empties that file.
"""

import sys
from pathlib import Path
from typing import Any

from app.api.application import create_app as create_api
from app.contract.documents import api_specification, as_yaml, worker_specification
from app.runtime.settings import Settings
from app.worker.application import Worker
from dev.generated import write_or_check
from dev.stack import ROOT

FOLDER = ROOT / "asyncapi"
RELEASED = FOLDER / "released"
INTENDED = FOLDER / "breaking-changes.txt"


def default_settings() -> Settings:
    """Return the default settings, whatever the environment and `.env` say."""
    defaults: dict[str, Any] = {
        name: field.default for name, field in Settings.model_fields.items()
    }
    return Settings.model_validate(defaults)


def documents() -> dict[Path, str]:
    """Return the text of each file, generated from the two applications."""
    settings = default_settings()
    api = create_api(settings).state
    worker = Worker(settings)
    topology = worker.parts.topology
    return {
        FOLDER / "api.yaml": as_yaml(api_specification(api.broker, topology)),
        FOLDER / "worker.yaml": as_yaml(
            worker_specification(worker.consumer.broker, worker.parts.broker, topology)
        ),
    }


def main() -> None:
    """Write the documents or compare them, as the options say."""
    files = documents()
    if "--release" in sys.argv[1:]:
        files |= {RELEASED / path.name: text for path, text in files.items()} | {INTENDED: ""}
    write_or_check(files, recipe="asyncapi")


if __name__ == "__main__":
    main()
