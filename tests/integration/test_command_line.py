"""`pagemeta` as scripts and people use it, on real servers: exit codes, JSON and words."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from typer.testing import Result

from dev.stack import ROOT, Api
from tests.command_line import pagemeta
from tests.messages import publish
from tests.service import Service, eventually, started
from tests.site import Site

NOWHERE = "http://127.0.0.1:1"


def as_json(ran: Result) -> Any:
    assert ran.stderr == ""
    return json.loads(ran.stdout)


@pytest.fixture
def api(service: Service) -> Api:
    return service.api().start()


@pytest.fixture(scope="module")
def both(shared_service: Service) -> Service:
    """A deployment with an API and a worker, for the tests that only add pages to it."""
    api, _ = started(shared_service.api(), shared_service.worker())
    shared_service.environment["API"] = api.url
    return shared_service


# --- The program ---


def test_the_program_starts_and_reports_a_missing_broker_in_one_line(service: Service) -> None:
    environment = {**os.environ, **service.environment, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "queues"],
        env={**environment, "BROKER_URL": "amqp://127.0.0.1:1/"},
        cwd=service.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    # Nothing else: the drivers' own warnings and tracebacks stay out.
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.startswith("error: RabbitMQ could not be reached")


# --- submit and get ---


def test_submitted_pages_are_waited_for_and_reported(both: Service, site: Site) -> None:
    urls = [site.url("/page"), site.url("/status/404")]
    ran = pagemeta(both, "submit", *urls, "--wait", "--json", "--api", both.environment["API"])
    answers = as_json(ran)
    assert ran.exit_code == 0
    assert [(answer["status"], answer["status_code"]) for answer in answers] == [
        ("COMPLETED", 200),
        ("COMPLETED", 404),
    ]


def test_submitted_pages_are_shown_with_their_titles(both: Service, site: Site) -> None:
    urls = [site.url("/page"), site.url("/other")]
    ran = pagemeta(both, "submit", *urls, "--wait", "--api", both.environment["API"])
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert rows == [
        ["status", "url", "title", "reason"],
        ["COMPLETED", urls[0], "/page"],
        ["COMPLETED", urls[1], "/other"],
        ["2", "COMPLETED"],
    ]


def test_one_page_that_fails_makes_the_exit_code_1(both: Service, site: Site) -> None:
    urls = [site.url("/page"), "http://no-such-host.invalid/"]
    ran = pagemeta(both, "submit", *urls, "--wait", "--api", both.environment["API"])
    assert ran.exit_code == 1
    assert "the host name could not be resolved" in ran.stdout
    assert "1 COMPLETED, 1 FAILED_PERMANENT" in ran.stdout


def test_a_page_that_is_submitted_again_is_waited_for_again(both: Service, site: Site) -> None:
    url, at = site.url("/again"), ("--api", both.environment["API"])
    for hits in (1, 2):
        ran = pagemeta(both, "submit", url, "--wait", "--json", *at)
        assert [answer["status"] for answer in as_json(ran)] == ["COMPLETED"]
        assert site.hits["/again"] == hits


def test_waiting_for_a_page_polls_nothing(both: Service, site: Site) -> None:
    (api,) = (it for it in both.processes if isinstance(it, Api))
    url = site.url("/slow/2000/page")
    ran = pagemeta(both, "get", url, "--wait", "--json", "--api", api.url)
    assert as_json(ran)["status"] == "COMPLETED"
    calls = [it for it in api.events("request_answered") if quote(url, safe="") in it["target"]]
    assert len(calls) == 1


def test_only_the_named_fields_are_shown(both: Service, site: Site) -> None:
    url, at = site.url("/page"), ("--api", both.environment["API"])
    named = ("--fields", "status_code,cookies")
    ran = pagemeta(both, "get", url, "--wait", "--json", *named, *at)
    assert set(as_json(ran)["metadata"]) == {"status_code", "cookies"}
    table = pagemeta(both, "get", url, "--wait", *named, *at).stdout
    assert "status_code" in table
    assert "content_type" not in table
    wrong = pagemeta(both, "get", url, "--fields", "size", *at)
    assert wrong.exit_code == 1
    assert "the known fields are" in wrong.stdout


def test_a_wait_ends_with_the_timeout(both: Service, site: Site) -> None:
    url, at = site.url("/held/for-ever"), ("--api", both.environment["API"])
    ran = pagemeta(both, "submit", url, "--wait", "--timeout", "2", "--json", *at)
    assert ran.exit_code == 1
    assert as_json(ran)[0]["status"] in ("QUEUED", "IN_PROGRESS")


def test_urls_come_from_a_file_or_the_standard_input(
    service: Service, api: Api, site: Site, tmp_path: Path
) -> None:
    lines = f"# pages\n{site.url('/1')}\n\n  {site.url('/2')}  \n"
    file = tmp_path / "urls.txt"
    file.write_text(lines)
    from_file = pagemeta(service, "submit", "--file", str(file), "--json", "--api", api.url)
    typed = pagemeta(service, "submit", "--file", "-", "--json", "--api", api.url, typed=lines)
    for ran in (from_file, typed):
        assert [answer["status"] for answer in as_json(ran)] == ["QUEUED", "QUEUED"]
    assert service.queue("requests").ready == 4


def test_an_invalid_url_is_reported_and_the_others_are_queued(
    service: Service, api: Api, site: Site
) -> None:
    ran = pagemeta(service, "submit", "nonsense", site.url("/page"), "--json", "--api", api.url)
    assert ran.exit_code == 1
    assert [answer["status"] for answer in as_json(ran)] == ["ERROR", "QUEUED"]


def test_a_full_queue_is_waited_for(service: Service, site: Site) -> None:
    service.environment["BROKER_QUEUE_MAX_LENGTH"] = "1"
    api, url = service.api().start(), site.url("/page")
    eventually(lambda: service.post(api, site.url("/full")).status_code, lambda code: code == 503)
    # It empties the queue, but only after the command has met it full.
    service.worker().launch()
    ran = pagemeta(service, "submit", url, "--json", "--api", api.url)
    assert ran.exit_code == 0, ran.stderr
    assert [answer["status"] for answer in as_json(ran)] == ["QUEUED"]
    api.wait_for_event("publish_failed", reason="queue_rejected", url=url)


def test_submitting_nothing_is_a_usage_error(service: Service) -> None:
    assert pagemeta(service, "submit").exit_code == 2
    assert pagemeta(service, "submit", "--file", "/nowhere").exit_code == 2


def test_a_page_is_shown_as_a_table_or_as_its_whole_record(both: Service, site: Site) -> None:
    at = ("--api", both.environment["API"])
    first = pagemeta(both, "get", site.url("/page"), *at)
    assert first.exit_code == 1
    assert "QUEUED" in first.stdout
    ended = pagemeta(both, "get", site.url("/page"), "--wait", *at)
    assert ended.exit_code == 0
    assert "COMPLETED" in ended.stdout
    assert ended.stdout.split()[:2] == ["title", "/page"]
    whole = as_json(pagemeta(both, "get", site.url("/page"), "--json", *at))
    assert whole["metadata"]["page_source"] == "<!doctype html><title>/page</title>"


@pytest.mark.parametrize("command", ["submit", "get"])
def test_an_api_that_does_not_answer_is_named(service: Service, command: str) -> None:
    ran = pagemeta(service, command, "http://example.com/", "--api", NOWHERE)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"error: no answer from {NOWHERE}")


# --- queues and watch ---


def test_queues_are_shown_with_their_messages_and_consumers(service: Service, api: Api) -> None:
    service.post(api, "http://example.com/")
    ran = pagemeta(service, "queues", "--json")
    assert ran.exit_code == 0
    counts = as_json(ran)
    assert counts[f"{service.name}.requests"] == {"messages": 1, "consumers": 0}
    assert counts[f"{service.name}.dead"] == {"messages": 0, "consumers": 0}
    assert f"{service.name}.retry.1s" in pagemeta(service, "queues").stdout


def test_a_missing_queue_makes_the_exit_code_1(service: Service) -> None:
    ran = pagemeta(service, "queues")
    assert ran.exit_code == 1
    assert ran.stdout.count("missing") == 4


def test_watch_prints_one_line_for_each_look(service: Service, api: Api) -> None:
    looks = pagemeta(service, "watch", "--json", "--times", "3", "--every", "0.1").stdout
    assert [f"{service.name}.requests" in line for line in looks.splitlines()] == [True] * 3
    service.post(api, "http://example.com/")
    assert "consumers" in pagemeta(service, "watch", "--times", "2", "--every", "0.1").stdout


# --- doctor ---


def examined(service: Service, **settings: str) -> dict[str, tuple[str, str]]:
    api = service.environment.get("API", NOWHERE)
    ran = pagemeta(service, "doctor", "--json", "--api", api, **settings)
    findings = as_json(ran)
    problems = [finding for finding in findings if finding["verdict"] == "problem"]
    assert ran.exit_code == bool(problems)
    assert all(finding["advice"] for finding in findings if finding["verdict"] != "ok")
    return {finding["check"]: (finding["verdict"], finding["found"]) for finding in findings}


def verdicts(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {check: verdict for check, (verdict, _) in found.items()}


def test_a_service_at_work_has_no_problem(both: Service) -> None:
    assert verdicts(examined(both)) == {
        **dict.fromkeys(("settings", "broker", "queues", "workers"), "ok"),
        **dict.fromkeys(("database", "indexes", "api"), "ok"),
        "guard": "warning",
        "replication": "warning",
    }


def test_before_the_first_start_queues_and_collection_are_reported_missing(
    service: Service,
) -> None:
    found = examined(service)
    assert found["queues"][0] == found["pages"][0] == "problem"
    assert "missing" in found["queues"][1]
    assert found["api"][0] == "warning"
    assert service.queue_names() == []
    assert service.pages.name not in service.pages.database.list_collection_names()


def test_a_queue_without_a_worker_is_a_problem(service: Service, api: Api) -> None:
    assert api.running
    assert examined(service)["workers"][0] == "problem"


async def _make_queue(service: Service) -> None:
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(f"{service.name}.dead", durable=True)


def test_a_queue_with_other_arguments_is_a_problem(service: Service) -> None:
    asyncio.run(_make_queue(service))
    verdict, found = examined(service)["queues"]
    assert verdict == "problem"
    assert f"{service.name}.dead" in found
    assert "x-queue-type" in found


def test_a_dropped_index_is_a_problem(service: Service, api: Api) -> None:
    assert api.running
    service.pages.drop_index("url_1")
    left = "_id, created_at, processing.waiting, processing.covered.request_id"
    assert examined(service)["indexes"] == ("problem", f"only these indexes exist: {left}")


def test_a_dead_letter_is_a_warning_and_can_be_read_by_a_script(service: Service) -> None:
    service.worker().start()
    publish(service, [b"{"])
    eventually(lambda: service.queue("dead").ready, lambda count: count == 1)
    assert examined(service)["dead letters"] == ("warning", "1 dead letters to look at")
    (letter,) = as_json(pagemeta(service, "dead-letters", "list", "--json"))
    assert (letter["body"], letter["reason"]) == ("{", "rejected")


def test_servers_that_do_not_answer_are_problems(service: Service) -> None:
    away = {"BROKER_URL": "amqp://127.0.0.1:1/", "DATABASE_URL": "mongodb://127.0.0.1:1/"}
    found = examined(service, **away, DATABASE_TIMEOUT_SECONDS="0.3")
    assert found["broker"][0] == found["database"][0] == "problem"
    assert found["database"][1].startswith("MongoDB could not be reached: 127.0.0.1:1")


def test_settings_that_cannot_be_used_are_named(service: Service) -> None:
    ran = pagemeta(service, "doctor", BROKER_QUEUE_TYPE="stream")
    assert ran.exit_code != 0
    assert "BROKER_QUEUE_TYPE" in ran.output
