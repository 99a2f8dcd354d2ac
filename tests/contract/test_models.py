"""The generated models in `examples/models/` know every field of the document."""

import copy
from typing import Any

import pytest
import yaml

from dev.specs import FOLDER
from tests.generated_models import node_or_skip, read_by_node, read_by_python

MESSAGES = yaml.safe_load((FOLDER / "worker.yaml").read_text())["components"]["messages"]
EVENTS = [
    example["payload"]
    for name, message in MESSAGES.items()
    if name.startswith("Page")
    for example in message["examples"]
]


def test_the_models_of_pydantic_take_every_example() -> None:
    assert len(EVENTS) == 4
    assert read_by_python(EVENTS) == EVENTS


def test_the_models_in_javascript_take_every_example() -> None:
    assert read_by_node(node_or_skip("the models in JavaScript"), EVENTS) == EVENTS


def a_new_field() -> Any:
    event = copy.deepcopy(EVENTS[0])
    event["data"]["new"] = "field"
    return event


def test_a_field_that_the_models_lack_is_noticed() -> None:
    with pytest.raises(AssertionError):
        read_by_python([a_new_field()])
    with pytest.raises(AssertionError, match="not in the models: new,field"):
        read_by_node(node_or_skip("the models in JavaScript"), [a_new_field()])
