"""The models in `examples/models/`: `python -m dev.models [--check]`.

AsyncAPI's modelina generates them from `asyncapi/worker.yaml`. It needs Node.js, and 200 MB of
packages. `--check` only compares what it generates with the files.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.generated import write_or_check
from dev.node import Node, find_node
from dev.specs import FOLDER as SPECIFICATIONS
from dev.stack import ROOT

FOLDER = ROOT / "examples" / "models"


def generated(node: Node) -> dict[Path, str]:
    """Return the text of each model."""
    node.install(FOLDER)
    with TemporaryDirectory() as folder:
        command = [node.node, "generate.mjs", str(SPECIFICATIONS / "worker.yaml"), folder]
        subprocess.run(command, cwd=FOLDER, check=True)
        made = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {FOLDER / path.relative_to(folder): path.read_text() for path in made}


def main() -> None:
    """Write the models or compare them, as the options say."""
    node = find_node()
    if node is None:
        print("The models were not generated: that needs Node.js. The tests try those there are.")
        return
    write_or_check(generated(node), recipe="models")


if __name__ == "__main__":
    main()
