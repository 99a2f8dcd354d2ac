"""`just contract`: the message contracts in `asyncapi/`, read by AsyncAPI's own parser.

It needs Node.js. Where there is none the contracts are still held to the schema of AsyncAPI, to
the code and to the last release, by tests.
"""

import shutil
import subprocess
import sys

from dev.specs import FOLDER
from dev.stack import ROOT

PARSER = ROOT / "dev" / "asyncapi-parser"


def main() -> None:
    """Parse both documents; end with 1 if there is an error or a warning."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        print("Without Node.js AsyncAPI's own parser can't run; the tests check the rest.")
        return
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(install, cwd=PARSER, check=True, stdout=subprocess.DEVNULL)
    documents = sorted(str(path.relative_to(ROOT)) for path in FOLDER.glob("*.yaml"))
    sys.exit(subprocess.call([node, PARSER / "check.mjs", *documents], cwd=ROOT))


if __name__ == "__main__":
    main()
