"""What the Markdown documents say is held to the code that they speak of."""

import ast
import json
import re
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml
from fastapi import FastAPI

from app import __version__
from app.api.schemas import CompletedPage
from app.assembly import topology_of
from app.broker.messages import MetadataRequested
from app.cli.main import app as pagemeta
from app.models import Cookie, ErrorKind, PageMetadata, PageStatus
from app.runtime.metrics import REGISTRY
from app.runtime.settings import Settings
from dev.demo import expected_at, verdict
from dev.specs import RELEASED
from dev.stack import ROOT

FOLDERS_OF_DOCUMENTS = ("*.md", "docs/**/*.md", "bench/*.md", "examples/*/*.md")
DOCUMENTS = sorted(path for folder in FOLDERS_OF_DOCUMENTS for path in ROOT.glob(folder))
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
HTTP = (ROOT / "docs/http.md").read_text()
MESSAGES = (ROOT / "docs/messages.md").read_text()
RUNBOOK = (ROOT / "docs/operations.md").read_text()
LOGS = (ROOT / "docs/logs.md").read_text()
CODE = [path.read_text() for path in ROOT.glob("app/**/*.py")]

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


# --- All documents ---


def anchors(document: Path) -> set[str]:
    """The fragments by which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@each_document
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    for link in links:
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


@each_document
def test_every_file_that_is_named_exists(document: Path) -> None:
    named = re.findall(
        r"`((?:app|asyncapi|bench|deploy|dev|docs|tests)/[\w./-]*)`", document.read_text()
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


@each_document
def test_every_setting_that_is_named_exists(document: Path) -> None:
    if document.name == "CHANGELOG.md":  # it also names settings of earlier versions
        return
    named = re.findall(
        r"\b(?:BROKER|DATABASE|WORKER|FETCH|API|LOG)_[A-Z_]+\b", document.read_text()
    )
    assert {name.lower() for name in named} <= set(Settings.model_fields)


@each_document
def test_every_metric_that_is_named_exists(document: Path) -> None:
    families = [*REGISTRY.collect()]
    known = {family.name for family in families}
    known |= {sample.name for family in families for sample in family.samples}
    assert set(re.findall(r"\bpage_metadata_[a-z_]+", document.read_text())) <= known


def commands(group: Any, prefix: str = "pagemeta") -> set[str]:
    """Every command line of the program, without its arguments."""
    found = set()
    for name, command in group.commands.items():
        line = f"{prefix} {name}"
        found |= commands(command, line) if hasattr(command, "commands") else {line}
    return found


@each_document
def test_every_command_of_pagemeta_that_is_named_exists(document: Path) -> None:
    named = re.findall(
        r"(?:`|\bjust )(pagemeta (?:dead-letters |keys )?[a-z][a-z-]*)", document.read_text()
    )
    assert set(named) <= commands(typer.main.get_command(pagemeta))


def test_the_runbook_names_every_command_of_pagemeta() -> None:
    for line in commands(typer.main.get_command(pagemeta)):
        assert line.removeprefix("pagemeta dead-letters ").removeprefix("pagemeta keys ") in RUNBOOK


def test_every_name_in_the_runbook_occurs_in_the_code() -> None:
    code = "".join(CODE)
    named = re.findall(r"`([a-z]+(?:_[a-z]+)+)`", RUNBOOK)
    assert {"consumers_lost", "unhandled_error"} <= set(named)
    assert [name for name in named if name not in code] == []


# --- Log events ---


BOUND_FIELDS = {"request_id", "url", "queue", "connection", "exception", "key_id"}
"""Fields that most lines get from `bind()`, `contextualize()` or `opt()`, not by their own call."""


@cache
def logged_fields() -> dict[str, set[str]]:
    """The events that the code logs by a constant name, and the fields in the call.

    Such a call is `logger.info("publish_rejected", reason=reason)`.
    """
    methods = {"debug", "info", "warning", "error"}
    logging = (text for text in CODE if any(f".{method}(" in text for method in methods))
    calls = (node for text in logging for node in ast.walk(ast.parse(text)))
    fields_of: dict[str, set[str]] = {}
    for call in calls:
        match call:
            case ast.Call(
                func=ast.Attribute(attr=method), args=[ast.Constant(value=str(event))]
            ) if method in methods and re.fullmatch(r"[a-z]+(_[a-z]+)+", event):
                found = {str(keyword.arg) for keyword in call.keywords}
                fields_of.setdefault(event, set()).update(found)
    return fields_of


def explained_fields() -> dict[str, set[str]]:
    """The fields that the tables of `docs/logs.md` name, by event."""
    rows = re.findall(r"^\| (`.*?) \| (.*?) ?\| ", LOGS, re.MULTILINE)
    names = [(re.findall(r"`(\w+)`", events), fields) for events, fields in rows]
    return {event: set(re.findall(r"`(\w+)`", fields)) for each, fields in names for event in each}


def test_every_log_event_is_explained() -> None:
    explained = explained_fields()
    assert logged_fields().keys() - explained.keys() == set()
    # Some names are chosen while the process runs; they stand in the code all the same.
    assert [event for event in explained if f'"{event}"' not in "".join(CODE)] == []


@pytest.mark.parametrize(("event", "fields"), logged_fields().items())
def test_the_fields_of_a_log_event_are_those_of_its_row(event: str, fields: set[str]) -> None:
    assert explained_fields()[event] - BOUND_FIELDS == fields - BOUND_FIELDS


# --- README ---


def test_the_readme_shows_the_demo_as_it_runs() -> None:
    shown = README.partition("rust-just && .just/bin/just demo\n")[2].partition("\n```")[0]
    lines = shown.splitlines()
    heading = next(line for line in lines if line.startswith(" Page"))
    rows = {
        line.split()[0]: line[heading.index("Status") :].split()
        for line in lines
        if line.startswith(" http")
    }
    site = next(iter(rows)).rstrip("/")
    for page in expected_at(site):
        row = rows[page.url]
        assert row[0] == page.status
        assert row[1] == str(page.http_status or page.error_kind)
        assert row[5] == str(page.attempts or 1)
    assert lines[-1:] == verdict([])


@pytest.mark.parametrize("row", ["POST", "GET of 20 KB", "worker"])
def test_the_readme_tells_what_was_measured_last(row: str) -> None:
    ours = re.findall(rf"^\| {row} \| (\d+) ", bench_results(), re.MULTILINE)
    assert len(ours) == 1
    assert ours[0] in README


def test_the_readme_tells_how_many_targets_are_missed() -> None:
    met, missed = (bench_results().count(f"| {answer} |") for answer in ("yes", "**no**"))
    assert f"misses {missed} of its {met + missed} targets" in README


@pytest.mark.parametrize("row", ["POST", "worker", "two workers"])
def test_the_benchmarks_are_explained_by_the_ratios_that_were_measured_last(row: str) -> None:
    (ratio,) = re.findall(rf"^\| {row} \|[^|]*\|[^|]*\| ([\d.]+) ", bench_results(), re.MULTILINE)
    assert f"{float(ratio):.2f}" in (ROOT / "bench/README.md").read_text()


def bench_results() -> str:
    return (ROOT / "bench/results/bench.md").read_text()


# --- CONTRIBUTING, CHANGELOG ---


def test_the_layout_names_every_package_and_module_of_the_application() -> None:
    tree = CONTRIBUTING.partition("```text\n")[2].partition("```")[0]
    named = re.findall(r"^[├└]── (\S+)", tree, re.MULTILINE)
    present = [path for path in (ROOT / "app").iterdir() if path.name != "__pycache__"]
    assert sorted(named) == sorted(path.name + "/" * path.is_dir() for path in present)
    for folder in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / folder).is_dir()


def last_release() -> str:
    releases = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    return str(releases[0])


def numbers(version: str) -> list[int]:
    return [int(number) for number in version.removesuffix(".dev0").split(".")]


def test_the_version_is_the_last_release_or_a_later_one_in_development() -> None:
    if __version__ != last_release():
        assert __version__.endswith(".dev0")
        assert numbers(__version__) > numbers(last_release())


def test_the_released_documents_are_those_of_the_last_release() -> None:
    for document in RELEASED.glob("*.yaml"):
        assert yaml.safe_load(document.read_text())["info"]["version"] == last_release()


def test_documents_that_differ_from_the_released_ones_have_another_version() -> None:
    for released in RELEASED.glob("*.yaml"):
        current = (RELEASED.parent / released.name).read_text()
        assert current == released.read_text() or __version__ != last_release()


def test_the_package_takes_its_version_from_the_application() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "app/__init__.py"


# --- docs/http.md ---


def first_cells(text: str, heading: str) -> list[str]:
    """The first column of the table whose first heading this is."""
    table = text.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]


def documented_paths() -> list[str]:
    cells = " ".join(first_cells(HTTP, "call"))
    return re.findall(r"(?<=[` ])(/[\w/.{}]*)", cells)


def test_every_endpoint_of_the_openapi_document_is_in_the_table(openapi: Any) -> None:
    assert set(openapi["paths"]) <= set(documented_paths())


def test_the_table_names_every_status_of_every_endpoint(openapi: Any) -> None:
    rows = re.findall(r"^\| `([A-Z]+) (/[\w/{}]*).*?\| (.*) \|$", HTTP, re.MULTILINE)
    named = {(method, path): set(re.findall(r"\*\*(\d+)\*\*", text)) for method, path, text in rows}
    for path, calls in openapi["paths"].items():
        for method, call in calls.items():
            assert named[method.upper(), path] == set(call["responses"])


async def test_every_endpoint_in_the_table_is_served(default_api: FastAPI) -> None:
    transport = httpx.ASGITransport(default_api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in documented_paths():
            if path not in {"/health/ready", "/metadata/pages"}:  # they ask the servers
                method = "POST" if path == "/metadata/batch" else "GET"
                assert (await client.request(method, path)).status_code in {200, 400}, path


def test_every_status_and_kind_of_error_is_explained() -> None:
    assert set(first_cells(HTTP, "`status`")) == {f"`{status}`" for status in PageStatus}
    assert set(first_cells(HTTP, "`error.kind`")) == {f"`{kind}`" for kind in ErrorKind}


def test_every_type_of_problem_is_explained(openapi: Any) -> None:
    types = set()
    for answer in answers(openapi):
        for example in answer.get("examples", {}).values():
            types.add((example["value"]["status"], example["value"]["type"]))
    explained = set(re.findall(r"^\| (\d+) \| `(urn:[\w:-]+)` ", HTTP, re.MULTILINE))
    assert {(str(status), name) for status, name in types} == explained


def answers(openapi: Any) -> list[Any]:
    calls = [call for path in openapi["paths"].values() for call in path.values()]
    contents = [
        answer["content"]
        for call in calls
        for answer in call["responses"].values()
        if "content" in answer
    ]
    return [content[kind] for content in contents for kind in content if "problem" in kind]


def test_the_page_that_is_shown_has_every_field() -> None:
    page = json.loads(HTTP.partition("```json\n")[2].partition("```")[0])
    CompletedPage.model_validate(page)
    assert set(page) == set(CompletedPage.model_fields)
    assert set(page["metadata"]) == {field.name for field in fields(PageMetadata)}
    assert set(page["metadata"]["cookies"][0]) == {field.name for field in fields(Cookie)}


# --- docs/messages.md ---


def test_every_queue_is_in_the_table(settings: Settings) -> None:
    named = re.findall(r"`([\w.]+)`", " ".join(first_cells(MESSAGES, "queue")))
    assert set(named) == {queue.name for queue in topology_of(settings)}


def test_the_message_that_is_shown_is_a_request() -> None:
    body = MESSAGES.partition("```json\n")[2].partition("```")[0]
    MetadataRequested.model_validate_json(body)
    assert set(json.loads(body)) <= set(MetadataRequested.model_fields)
