"""The models that modelina has generated, as programs that read messages by them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from dev.models import FOLDER
from dev.node import Node, find_node

IN_PYTHON = """
import json, sys
from page_events.page_event_message import PageEventMessage
for line in sys.stdin:
    event = PageEventMessage.model_validate_json(line)
    assert event.additional_properties is event.data.additional_properties is None
    print(event.model_dump_json())
"""

IN_JAVASCRIPT = """
const { PageEventMessage } = require("./javascript/PageEventMessage.js");
for (const line of require("node:fs").readFileSync(0, "utf8").trimEnd().split("\\n")) {
  const event = PageEventMessage.unmarshal(line);
  const unknown = [...event.additionalProperties, ...event.data.additionalProperties];
  if (unknown.length) throw new Error(`not in the models: ${unknown}`);
  console.log(event.marshal());
}
"""


def read_by_python(events: Iterable[Any]) -> list[Any]:
    """Return the events as the models of pydantic have read and written them.

    An event with a field that the models lack is an error.
    """
    return _read([sys.executable, "-c", IN_PYTHON], events)


def read_by_node(node: Node, events: Iterable[Any]) -> list[Any]:
    """Return the same of the models in JavaScript."""
    return _read([node.node, "-e", IN_JAVASCRIPT], events)


def _read(command: Sequence[str], events: Iterable[Any]) -> list[Any]:
    done = subprocess.run(
        command,
        cwd=FOLDER,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
        input="\n".join(map(json.dumps, events)) + "\n",
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def node_or_skip(what: str) -> Node:
    """Return Node.js, or skip the test, with a line at the end of the run that says what for.

    CI's machine has it: there its absence is a failure.
    """
    node = find_node()
    if node is None:
        reason = f"NOT TESTED without Node.js and npm: {what}"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    return node
