"""What is deployed: the containers of Compose, the alerts and the dashboard."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import typer
import yaml

from app.broker.connection import ConnectionState
from app.cli.main import app as pagemeta
from app.keys import Scope
from app.runtime.metrics import PUBLISHER_STATE, REGISTRY
from dev.stack import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
README = (ROOT / "README.md").read_text()
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/page-metadata.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

API_COMMAND = ["python", "-m", "app.api", "--host", "0.0.0.0", "--port", "6577"]
WORKER_COMMAND = ["faststream", "run", "app.worker.main:app", "--host", "0.0.0.0", "--port", "6578"]
PASSWORDS = {"RABBITMQ_PASSWORD", "MONGO_PASSWORD", "MONGO_ROOT_PASSWORD", "GRAFANA_PASSWORD"}
PROMETHEUS_OWN = {"up"}


# --- Containers ---


def test_compose_asks_for_the_passwords_and_for_nothing_else() -> None:
    named = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    named.add(COMPOSE["secrets"]["grafana"]["environment"])
    assert named == PASSWORDS


def test_every_image_is_pinned() -> None:
    images = [service["image"] for name, service in SERVICES.items() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == 7
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+(-[\w-]+)?$", image), image


def test_containers_run_the_commands_that_the_documents_name() -> None:
    (image_command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert json.loads(image_command) == API_COMMAND
    assert "command" not in SERVICES["api"]
    assert SERVICES["worker"]["command"] == WORKER_COMMAND
    for command in (API_COMMAND, WORKER_COMMAND):
        assert f"`{' '.join(command)}`" in README


ENDING = {"keys", "prometheus-key"}
"""Containers that do something once, and end."""


def test_every_container_has_limits_restarts_and_listens_on_this_machine_only() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("on-failure" if name in ENDING else "unless-stopped"), name
        assert {"mem_limit", "cpus"} <= service.keys(), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_a_container_starts_once_the_ones_it_needs_are_healthy_or_done() -> None:
    for service in SERVICES.values():
        for dependency, condition in service.get("depends_on", {}).items():
            if dependency in ENDING:
                assert condition == {"condition": "service_completed_successfully"}
            else:
                assert condition == {"condition": "service_healthy"}
                assert "healthcheck" in SERVICES[dependency]


def test_callers_of_the_containers_need_a_key_and_a_first_one_is_made() -> None:
    assert SERVICES["api"]["environment"]["API_AUTH"] == "required"
    assert "keys" in SERVICES["api"]["depends_on"]
    assert "prometheus-key" in SERVICES["prometheus"]["depends_on"]


def made_by_compose() -> Iterator[list[str]]:
    """The arguments of `pagemeta` by which containers make keys."""
    for name in sorted(ENDING):
        words = " ".join(SERVICES[name]["command"]).partition("pagemeta ")[2]
        yield words.partition(" >")[0].split()


@pytest.mark.parametrize(
    ("arguments", "scopes"),
    [*zip(made_by_compose(), [set(Scope), {Scope.METRICS}], strict=True)],
)
def test_the_keys_that_compose_makes_have_their_scopes(
    arguments: list[str], scopes: set[Scope]
) -> None:
    group: Any = typer.main.get_command(pagemeta)
    assert arguments[:2] == ["keys", "create"]
    create = group.commands["keys"].commands["create"]
    parsed = create.make_context("create", arguments[2:], resilient_parsing=False).params
    assert set(map(Scope, parsed["scopes"])) == scopes
    assert parsed["once"] is True


def test_nothing_keeps_compose_from_running_several_workers() -> None:
    assert not {"container_name", "ports", "hostname"} & SERVICES["worker"].keys()


def test_monitoring_starts_with_its_profile_only() -> None:
    watching = {name for name, service in SERVICES.items() if "profiles" in service}
    assert watching == {"prometheus", "prometheus-key", "grafana", "jaeger"}


def test_every_mounted_file_exists() -> None:
    mounts = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    folders = [volume.split(":")[0] for volume in mounts if volume.startswith("./")]
    assert len(folders) == 6
    assert all((ROOT / folder).exists() for folder in folders)


def test_the_image_runs_without_root_and_has_a_health_check() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "USER 10001" in final
    assert "HEALTHCHECK" in final
    assert "LABEL org.opencontainers.image.title" in final
    assert "apt-get" not in DOCKERFILE
    # In the exec form Docker sends SIGTERM to the process itself and not to a shell around it.
    assert all(line.startswith("CMD [") for line in re.findall(r"^CMD.*$", final, re.MULTILINE))


# --- Alerts and dashboard ---


def shown_metrics() -> set[str]:
    families = [*REGISTRY.collect()]
    names = {sample.name for family in families for sample in family.samples}
    for family in families:
        suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}
        names |= {family.name + end for end in suffixes.get(family.type, ("",))}
    return names


def selectors(expression: Any) -> Iterator[Any]:
    """Yield every selector of a parsed query."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    children = [getattr(expression, name, None) for name in ("lhs", "rhs", "expr")]
    children += [getattr(expression, "vector_selector", None), *getattr(expression, "args", ())]
    for child in children:
        if child is not None:
            yield from selectors(child)


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_a_query_uses_only_metrics_that_exist(query: str) -> None:
    parsed = promql_parser.parse(query.replace("$__rate_interval", "1m"))
    names = {selector.name for selector in selectors(parsed)}
    assert names
    assert names <= shown_metrics() | PROMETHEUS_OWN


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_links_to_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in RUNBOOK


def test_the_runbook_has_the_sections_of_the_alerts_and_no_others() -> None:
    section = RUNBOOK.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_prometheus_scrapes_the_ports_on_which_the_processes_listen() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in config["scrape_configs"]}
    assert {name: (job["names"], job["port"]) for name, job in jobs.items()} == {
        "api": (["api"], 6577),
        "worker": (["worker"], 6578),
    }


def test_the_metric_of_the_publisher_knows_every_state() -> None:
    for state in ConnectionState:
        PUBLISHER_STATE.state(state)


@pytest.mark.parametrize("process", ["api", "worker"])
def test_a_process_of_the_service_gets_no_password_of_another_container(process: str) -> None:
    environment = SERVICES[process]["environment"]
    assert environment["GRAFANA_PASSWORD"] == environment["MONGO_ROOT_PASSWORD"] == ""


def test_no_server_is_on_the_network_by_which_workers_reach_the_internet() -> None:
    on_it = {name for name, it in SERVICES.items() if "internet" in it["networks"]}
    assert on_it == {"worker"}
    assert yaml.safe_load((ROOT / "compose.yaml").read_text())["networks"]["servers"]["internal"]
