"""Files that repeat what the code says: each is held to it here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema  # type: ignore[import-untyped]  # it has none

from app.runtime.settings import Settings
from dev import settings_example, specs
from dev.generated import out_of_step
from dev.stack import ROOT

VARIABLES = {name.upper() for name in Settings.model_fields}


def test_the_settings_example_is_what_just_env_example_writes() -> None:
    files = {settings_example.FILE: settings_example.settings_example()}
    assert out_of_step(files) == []


@pytest.mark.usefixtures("bare_environment")
def test_the_settings_example_sets_every_default(settings: Settings) -> None:
    example = Settings(_env_file=settings_example.FILE)
    assert example == settings
    assert {name.upper() for name in example.model_fields_set} == VARIABLES


@pytest.mark.usefixtures("bare_environment")
def test_the_message_contracts_are_those_of_the_defaults(settings: Settings) -> None:
    assert specs.default_settings() == settings


def test_the_message_contracts_are_what_just_asyncapi_writes() -> None:
    assert out_of_step(specs.documents()) == []


def test_a_generated_file_that_differs_is_out_of_step(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text("an older text")
    assert out_of_step({path: "the text", tmp_path / "missing.yaml": ""}) == [
        path,
        tmp_path / "missing.yaml",
    ]


def test_the_compose_file_is_valid() -> None:
    with pytest.raises(SystemExit, match="0"):
        check_jsonschema(["--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")])


@pytest.mark.parametrize("service", ["api", "worker"])
def test_the_compose_file_sets_variables_that_exist(service: str) -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    environment = compose["services"][service]["environment"]
    # What is set to nothing is a password of another container, kept away from this one.
    assert {name for name, value in environment.items() if value} <= VARIABLES


def test_containers_get_no_password_from_this_repository() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert re.findall(r"\$\{(?!(?:RABBITMQ|MONGO|MONGO_ROOT)_PASSWORD:\?)", text) == []
    assert re.findall(r"PASS\w*: (?!\$|\"\"$)", text, re.MULTILINE) == []


def test_the_readme_names_every_password_that_compose_asks_for() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
    assert required
    assert required <= set(re.findall(r"`(\w+)`", (ROOT / "README.md").read_text()))


def test_the_image_runs_the_commands_that_the_code_answers_to() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    dockerfile = (ROOT / "Dockerfile").read_text()
    command = re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert json.loads(command[0])[:3] == ["python", "-m", "app.api"]
    worker = compose["services"]["worker"]["command"]
    assert worker[:3] == ["faststream", "run", "app.worker.main:app"]


LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")


def locked(lock: str) -> set[str]:
    """The packages of a lock file, as name==version."""
    return set(re.findall(r"^([a-z0-9][^\s;]*==[^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_have_hashes_and_name_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.findall(r"^[a-z0-9].*\n.*", text, re.MULTILINE)
    assert len(entries) == len(locked(lock))
    assert [entry for entry in entries if "    --hash=sha256:" not in entry] == []
    assert "://" not in text


def test_the_locks_agree() -> None:
    service, development, benchmarks = map(locked, LOCKS)
    assert service < development < benchmarks


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    just = Path(sys.executable).with_name("just")
    dumped = subprocess.run(
        [just, "--dump", "--dump-format", "json"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    described: dict[str, Any] = json.loads(dumped.stdout)["recipes"]
    return described


def test_every_recipe_says_what_it_does(recipes: dict[str, Any]) -> None:
    assert [name for name, recipe in recipes.items() if not recipe["doc"]] == []


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "bench/README.md"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_that_a_document_names_exists(recipes: dict[str, Any], document: Path) -> None:
    named = re.findall(r"(?:^\$ |[`/])just ([a-z][a-z-]*)\b", document.read_text(), re.MULTILINE)
    assert set(named) <= set(recipes)


def test_continuous_integration_starts_as_the_readme_says() -> None:
    bootstrap = "pip install --quiet --target .just rust-just && .just/bin/just"
    assert f"{bootstrap} demo" in (ROOT / "README.md").read_text()
    assert f"{bootstrap} check" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)


WORKFLOW = ROOT / ".github/workflows/ci.yml"


@pytest.mark.parametrize(
    "schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"]
)
def test_the_workflow_is_valid(schema: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        check_jsonschema(["--builtin-schema", schema, str(WORKFLOW)])


def test_the_workflow_pins_its_actions_and_may_only_read() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    actions = re.findall(r"uses: (\S+)", WORKFLOW.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert actions
    assert [it for it in actions if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", it)] == []


def test_the_workflow_checks_the_oldest_python_that_is_supported() -> None:
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["check"]
    assert job["steps"][-1]["run"] == ".just/bin/just check"
    project = (ROOT / "pyproject.toml").read_text()
    requires = re.findall(r'^requires-python = ">=(.+)"$', project, re.MULTILINE)
    assert requires == job["strategy"]["matrix"]["python"][:1]


def test_every_hook_calls_a_recipe(recipes: dict[str, Any]) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert hooks
    for hook in hooks:
        program, recipe = hook["entry"].split()
        assert program == ".venv/bin/just"
        assert recipe in recipes
