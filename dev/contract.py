"""`just contract`: read the message contracts in `asyncapi/` with AsyncAPI's own parser.

The parser needs Node.js. Without it the tests still compare the contracts with the schema of
AsyncAPI, with the code and with the last release.
"""

import subprocess
import sys

from dev.node import find_node
from dev.specs import FOLDER
from dev.stack import ROOT

PARSER = ROOT / "dev" / "asyncapi-parser"


def main() -> None:
    """Parse both documents; end with 1 if there is an error or a warning."""
    node = find_node()
    if node is None:
        print("AsyncAPI's own parser was not run: it needs Node.js. The tests check the rest.")
        return
    node.install(PARSER)
    documents = sorted(str(path.relative_to(ROOT)) for path in FOLDER.glob("*.yaml"))
    sys.exit(subprocess.call([node.node, PARSER / "check.mjs", *documents], cwd=ROOT))


if __name__ == "__main__":
    main()
