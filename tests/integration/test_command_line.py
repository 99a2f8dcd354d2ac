"""`pagemeta` as scripts and people use it, on real servers: exit codes, JSON and words."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from typer.testing import Result

from app.store.indexes import SOME_UNPUBLISHED
from dev.stack import ROOT, Api, Worker
from tests.command_line import pagemeta
from tests.messages import publish
from tests.plain_http import CLIENT
from tests.service import Service, eventually, started
from tests.site import Site, serving

Deploy = Callable[[], Service]

NOWHERE = "http://127.0.0.1:1"


def as_json(ran: Result) -> Any:
    assert ran.stderr == ""
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def unserved(deploy: Deploy) -> Service:
    """A deployment with an API and no worker: what is asked for stays queued."""
    service = deploy()
    service.environment["API"] = service.api().start().url
    return service


@pytest.fixture(scope="module")
def guarded(deploy: Deploy) -> Service:
    """A deployment with an API that asks for a key."""
    service = deploy()
    service.environment["API"] = service.api(API_AUTH="required").start().url
    return service


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
    # A request is logged after its answer was sent, so the command may end before its line is in.
    target = f"/metadata?url={quote(url, safe='')}"
    answered = api.wait_for_event("request_answered", target=target, status_code=200)
    assert api.events("request_answered", target=target) == [answered]


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
    unserved: Service, site: Site, tmp_path: Path
) -> None:
    at, before = ("--api", unserved.environment["API"]), unserved.queue("requests").ready
    lines = f"# pages\n{site.url('/1')}\n\n  {site.url('/2')}  \n"
    file = tmp_path / "urls.txt"
    file.write_text(lines)
    from_file = pagemeta(unserved, "submit", "--file", str(file), "--json", *at)
    typed = pagemeta(unserved, "submit", "--file", "-", "--json", *at, typed=lines)
    for ran in (from_file, typed):
        assert [answer["status"] for answer in as_json(ran)] == ["QUEUED", "QUEUED"]
    assert unserved.queue("requests").ready == before + 4


def test_an_invalid_url_is_reported_and_the_others_are_queued(
    unserved: Service, site: Site
) -> None:
    at = ("--api", unserved.environment["API"])
    ran = pagemeta(unserved, "submit", "nonsense", site.url("/page"), "--json", *at)
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


def a_file_of(folder: Path, urls: list[str]) -> str:
    file = folder / "urls.txt"
    file.write_text("\n".join(urls))
    return str(file)


def test_three_thousand_urls_of_a_file_are_queued_by_three_calls(
    service: Service, tmp_path: Path
) -> None:
    service.environment["BROKER_QUEUE_MAX_LENGTH"] = "6000"
    api = service.api().start()
    urls = [f"https://example.com/{number}" for number in range(3000)]
    file = a_file_of(tmp_path, urls)
    ran = pagemeta(service, "submit", "--file", file, "--json", "--api", api.url)
    assert ran.exit_code == 0
    assert [(it["url"], it["status"]) for it in as_json(ran)] == [(url, "QUEUED") for url in urls]
    eventually(lambda: service.queue("requests").ready, lambda count: count == 3000)
    assert service.pages.count_documents({"status": "QUEUED"}) == 3000
    api.wait_for_event("request_answered", method="POST", count=3)  # logged after the answer
    calls = api.events("request_answered", method="POST")
    assert [it["target"] for it in calls] == ["/metadata/batch"] * 3


def test_urls_of_a_file_wait_for_room_in_the_queue(
    service: Service, site: Site, tmp_path: Path
) -> None:
    service.environment["BROKER_QUEUE_MAX_LENGTH"] = "20"
    api, _ = started(service.api(), service.worker())
    urls = [site.url(f"/{number}") for number in range(300)]
    # The file has each URL twice, and one that is none.
    file = a_file_of(tmp_path, ["nonsense", *urls, *urls])
    ran = pagemeta(service, "submit", "--file", file, "--json", "--api", api.url)
    assert ran.exit_code == 1
    refused, *answers = as_json(ran)
    assert (refused["status"], refused["url"]) == ("ERROR", "nonsense")
    assert [(it["url"], it["status"]) for it in answers] == [(url, "QUEUED") for url in urls * 2]
    assert api.events("publish_failed", reason="queue_rejected")
    completed = {"status": "COMPLETED"}
    eventually(lambda: service.pages.count_documents(completed), lambda count: count == 300)


def test_the_results_of_pages_that_need_not_be_fetched_are_reported(
    both: Service, site: Site, tmp_path: Path
) -> None:
    at = ("--api", both.environment["API"])
    urls = [site.url("/page"), "http://no-such-host.invalid/"]
    file = ("--file", a_file_of(tmp_path, urls))
    waited = as_json(pagemeta(both, "submit", *file, "--wait", "--json", *at))
    assert [answer["status"] for answer in waited] == ["COMPLETED", "FAILED_PERMANENT"]
    ran = pagemeta(both, "submit", *file, "--max-age", "3600", "--json", *at)
    page, failed = as_json(ran)
    assert ran.exit_code == 1
    assert (page["status"], page["status_code"], page["title"]) == ("COMPLETED", 200, "/page")
    assert (failed["status"], failed["error"]["kind"]) == ("FAILED_PERMANENT", "dns")


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


@pytest.mark.parametrize("command", ["submit", "get", "list"])
def test_an_api_that_does_not_answer_is_named(service: Service, command: str) -> None:
    ran = pagemeta(service, command, "http://example.com/", "--api", NOWHERE)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"error: no answer from {NOWHERE}")


# --- list ---


@pytest.fixture(scope="module")
def listed_site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def listed(deploy: Deploy, listed_site: Site) -> Service:
    """A deployment that has three pages: one completed, one failed, and the newest one queued."""
    service = deploy()
    api, worker = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="1"))
    service.environment["API"] = api.url
    for url in (listed_site.url("/page"), "http://no-such-host.invalid/"):
        pagemeta(service, "submit", url, "--wait", "--api", api.url)
    worker.stop()
    pagemeta(service, "submit", "http://example.com/", "--api", api.url)
    return service


def urls_of(service: Service, *options: str) -> list[str]:
    ran = pagemeta(service, "list", *options, "--json", "--api", service.environment["API"])
    assert (ran.exit_code, ran.stderr) == (0, "")
    return [json.loads(line)["url"] for line in ran.stdout.splitlines()]


def test_the_inventory_is_listed_newest_first(listed: Service, listed_site: Site) -> None:
    queued, failed = "http://example.com/", "http://no-such-host.invalid/"
    page = listed_site.url("/page")
    assert urls_of(listed) == [queued, failed, page]
    assert urls_of(listed, "--limit", "1") == [queued]
    assert urls_of(listed, "--limit", "1", "--all") == [queued, failed, page]
    assert urls_of(listed, "--status", "queued", "--status", "COMPLETED") == [queued, page]
    assert urls_of(listed, "--host", "No-Such-Host.invalid") == [failed]
    assert urls_of(listed, "exam") == urls_of(listed, "--q", "exam") == [queued]
    assert urls_of(listed, "--since", "1h") == [queued, failed, page]
    assert urls_of(listed, "--updated-since", "2100-01-01T00:00:00Z") == []


def test_a_list_for_people_is_a_table(listed: Service) -> None:
    at = ("--api", listed.environment["API"])
    ran = pagemeta(listed, "list", *at)
    assert ran.stderr == ""
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert rows[0] == ["status", "HTTP", "size", "age", "page"]
    assert (rows[1][0], rows[1][-1]) == ("QUEUED", "http://example.com/")
    assert (rows[2][0], rows[2][-1]) == ("FAILED_PERMANENT", "http://no-such-host.invalid/")
    assert (rows[3][:2], rows[3][3], rows[3][-1]) == (["COMPLETED", "200"], "bytes", "/page")
    part = pagemeta(listed, "list", "--limit", "1", *at)
    assert part.stderr == "There are more pages: give --limit or --all.\n"


def test_a_list_of_more_pages_than_a_call_brings_is_whole(
    unserved: Service, tmp_path: Path
) -> None:
    at, them = ("--api", unserved.environment["API"]), ("--host", "many.test")
    urls = [f"http://many.test/{number}" for number in range(230)]
    pagemeta(unserved, "submit", "--file", a_file_of(tmp_path, urls), *at)
    assert len(urls_of(unserved, *them)) == 50
    assert len(urls_of(unserved, *them, "--limit", "120")) == 120
    assert sorted(urls_of(unserved, *them, "--all")) == sorted(urls)
    assert len(pagemeta(unserved, "list", *them, "--all", *at).stdout.splitlines()) == 231


def test_a_list_needs_a_key_that_may_read(
    guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--api", guarded.environment["API"])
    without = pagemeta(guarded, "list", *at)
    assert (without.exit_code, without.stdout) == (2, "")
    assert without.stderr == "error: send a key: Authorization: Bearer pm_…\n"
    key = pagemeta(guarded, "keys", "create", "reader", "--scope", "read").stdout.strip()
    monkeypatch.setenv("PAGEMETA_KEY", key)
    assert pagemeta(guarded, "list", *at).exit_code == 0


@pytest.mark.parametrize("wrong", [("--since", "7w"), ("--limit", "0"), ("--status", "NEW")])
def test_a_wrong_filter_is_a_usage_error(service: Service, wrong: tuple[str, str]) -> None:
    assert pagemeta(service, "list", *wrong, "--api", NOWHERE).exit_code == 2


# --- queues and watch ---


def submit_one(service: Service) -> None:
    at = ("--api", service.environment["API"])
    assert pagemeta(service, "submit", "http://example.com/", *at).exit_code == 0


def test_queues_are_shown_with_their_messages_and_consumers(unserved: Service) -> None:
    before = unserved.queue("requests").ready
    submit_one(unserved)
    ran = pagemeta(unserved, "queues", "--json")
    assert ran.exit_code == 0
    counts = as_json(ran)
    assert counts[f"{unserved.name}.requests"] == {"messages": before + 1, "consumers": 0}
    assert counts[f"{unserved.name}.dead"] == {"messages": 0, "consumers": 0}
    assert f"{unserved.name}.retry.1s" in pagemeta(unserved, "queues").stdout


def test_a_missing_queue_makes_the_exit_code_1(service: Service) -> None:
    ran = pagemeta(service, "queues")
    assert ran.exit_code == 1
    assert ran.stdout.count("missing") == 4


def test_watch_prints_each_look_at_once_where_there_is_no_terminal(unserved: Service) -> None:
    looks = pagemeta(unserved, "watch", "--json", "--times", "3", "--every", "0.1").stdout
    each = [json.loads(line)["queues"][f"{unserved.name}.requests"] for line in looks.splitlines()]
    assert [it["per_second"] for it in each] == [None, 0.0, 0.0]
    submit_one(unserved)
    tables = pagemeta(unserved, "watch", "--times", "2", "--every", "0.1").stdout
    assert tables.count("consumers") == 2


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
        "keys": "warning",
    }


def test_whether_callers_need_keys_and_how_many_there_are_is_told(service: Service) -> None:
    assert examined(service)["keys"] == (
        "warning",
        "API_AUTH=off: whoever reaches the API may use it; 0 keys are there",
    )
    required = {"API_AUTH": "required"}
    assert examined(service, **required)["keys"] == (
        "problem",
        "API_AUTH=required, and there is no key",
    )
    for name in ("one", "two", "three"):
        pagemeta(service, "keys", "create", name, "--scope", "read")
    pagemeta(service, "keys", "revoke", "two")
    assert examined(service, **required)["keys"] == ("ok", "API_AUTH=required, 2 keys")


def test_before_the_first_start_queues_and_collection_are_reported_missing(
    service: Service,
) -> None:
    found = examined(service)
    assert found["queues"][0] == found["pages"][0] == "problem"
    assert "missing" in found["queues"][1]
    assert found["api"][0] == "warning"
    assert service.queue_names() == []
    assert service.pages.name not in service.pages.database.list_collection_names()


def test_a_queue_without_a_worker_is_a_problem(unserved: Service) -> None:
    assert examined(unserved)["workers"][0] == "problem"


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


def test_a_dropped_index_is_a_problem(unserved: Service) -> None:
    unserved.pages.drop_index("url_1")
    found = examined(unserved)["indexes"]
    unserved.pages.create_index("url", unique=True)
    requests = "processing.waiting, processing.covered.request_id"
    lists = "status, host, updated_at, search"
    left = f"_id, created_at, {requests}, unpublished.event_id, deleted_at, {lists}"
    assert found == ("problem", f"only these indexes exist: {left}")


def test_a_dropped_index_of_lists_is_made_by_migrate(unserved: Service) -> None:
    unserved.pages.drop_index("listed_by_term")
    ran = pagemeta(unserved, "doctor", "--api", NOWHERE)
    assert "`pagemeta migrate`" in " ".join(ran.stdout.split())
    assert pagemeta(unserved, "migrate", "--yes").exit_code == 0
    assert examined(unserved)["indexes"][0] == "ok"


def test_an_index_for_another_number_of_days_is_a_problem(service: Service) -> None:
    service.api(PAGES_RETENTION_DAYS="7").start()
    assert "retention" not in examined(service, PAGES_RETENTION_DAYS="7")
    assert examined(service)["retention"] == (
        "problem",
        "the index that removes results is made for 7 days, and PAGES_RETENTION_DAYS is 0",
    )


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


# --- delete, events and republish ---


@pytest.fixture(scope="module")
def telling(deploy: Deploy) -> Service:
    service = deploy()
    api, _ = started(service.api(), service.worker(WORKER_MAX_ATTEMPTS="1"))
    service.environment["API"] = api.url
    return service


@pytest.fixture
def told(telling: Service, site: Site) -> Service:
    """A deployment that has told of one page, completed, and of another one, failed.

    It has no others: what the test before this one has left is forgotten.
    """
    eventually(lambda: telling.pages.count_documents(SOME_UNPUBLISHED), lambda count: not count)
    telling.pages.delete_many({})
    tell_of(telling, site.url("/page"))
    tell_of(telling, "http://no-such-host.invalid/")
    return telling


def tell_of(service: Service, url: str) -> None:
    """Have a page fetched, and return once the worker has published its event."""
    api, worker = service.processes
    assert isinstance(api, Api)
    assert isinstance(worker, Worker)
    before = published_by(worker)
    service.post(api, url)
    eventually(lambda: published_by(worker), lambda published: published == before + 1)


def published_by(worker: Worker) -> float:
    counters = re.compile(r'^page_metadata_events_total{.*"published"} (.+)$', re.MULTILINE)
    return sum(map(float, counters.findall(CLIENT.get(f"{worker.url}/metrics").text)))


def test_a_page_is_deleted_after_a_question(told: Service, site: Site) -> None:
    at = ("--api", told.environment["API"])
    url = site.url("/page")
    refused = pagemeta(told, "delete", url, *at, typed="n\n")
    assert refused.exit_code == 1
    assert told.pages.count_documents({"url": url, "status": "COMPLETED"}) == 1
    deleted = pagemeta(told, "delete", url, *at, typed="y\n")
    assert (deleted.exit_code, deleted.stdout.split()[-1]) == (0, "DELETED")
    assert told.pages.count_documents({"url": url, "status": "DELETED"}) == 1
    again = pagemeta(told, "delete", url, "--yes", "--json", *at)
    assert as_json(again) == {"status": "DELETED", "url": url}


def test_a_page_is_deleted_with_a_key_that_permits_it(
    guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--api", guarded.environment["API"])
    command = ("delete", "https://example.com/", "--yes", "--json", *at)
    for scope, status in (("read", "ERROR"), ("delete", "DELETED")):
        key = pagemeta(guarded, "keys", "create", scope, "--scope", scope).stdout.strip()
        monkeypatch.setenv("PAGEMETA_KEY", key)
        assert as_json(pagemeta(guarded, *command))["status"] == status


def test_what_is_no_url_is_not_deleted(unserved: Service) -> None:
    at = ("--api", unserved.environment["API"])
    ran = pagemeta(unserved, "delete", "nonsense", "--yes", "--json", *at)
    assert ran.exit_code == 1
    assert as_json(ran)["status"] == "ERROR"


class Following:
    """`pagemeta events` as a process of its own, from when its queue is bound."""

    def __init__(self, service: Service, *options: str) -> None:
        self.output = service.folder / "events.out"
        self.errors = service.folder / "events.err"
        with self.output.open("w") as out, self.errors.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli.main", "events", *options],
                env={**os.environ, **service.environment, "PYTHONPATH": str(ROOT)},
                cwd=service.folder,
                stdout=out,
                stderr=err,
            )
        bindings = ("--quiet", "list_bindings", "--no-table-headers", "source_name")
        exchange = f"{service.name}.events"
        eventually(lambda: exchange in service.rabbitmq.ctl(*bindings).split(), bool, within=40)

    def lines(self, count: int) -> list[str]:
        """Return what it has printed, once that is so many lines."""
        return eventually(
            lambda: self.output.read_text().splitlines(), lambda lines: len(lines) >= count
        )

    def ended(self, by: signal.Signals | None = None) -> int:
        if by is not None:
            self.process.send_signal(by)
        return self.process.wait(30)


@contextmanager
def following(service: Service, *options: str) -> Iterator[Following]:
    followed = Following(service, *options)
    try:
        yield followed
    finally:
        followed.process.kill()
        followed.process.wait()


def test_events_are_followed_until_ctrl_c_and_told_again(told: Service, site: Site) -> None:
    with following(told) as followed:
        first = pagemeta(told, "republish", "--since", "2026-01-01T00:00:00Z", "--json")
        assert as_json(first) == {"published": 2, "refused": 0}
        words = sorted(line.split(maxsplit=3)[1:] for line in followed.lines(2))
        url = site.url("/page")
        assert words == [
            ["completed", url, "/page"],
            ["failed", "http://no-such-host.invalid/", "the host name could not be resolved"],
        ]
        assert followed.ended(signal.SIGINT) == 130
    assert followed.errors.read_text() == ""


def test_only_the_events_of_the_named_kinds_are_followed(told: Service, site: Site) -> None:
    with following(told, "--json", "--kind", "failed", "--kind", "deleted") as followed:
        assert pagemeta(told, "republish", "--since", "2026-01-01").exit_code == 0
        at = ("--api", told.environment["API"])
        assert pagemeta(told, "delete", site.url("/page"), "--yes", *at).exit_code == 0
        failed, deleted = (json.loads(line) for line in followed.lines(2))
    assert failed["type"] == "page-metadata.page.failed.v1"
    assert deleted["type"] == "page-metadata.page.deleted.v1"
    # It is gone with its connection, however the program has ended.
    eventually(told.queue_names, lambda names: not any(it.startswith("events.") for it in names))


def test_following_ends_with_the_connection(service: Service) -> None:
    service.api().start()  # declares what is followed
    with following(service) as followed:
        service.rabbitmq.ctl("close_all_connections", "for a test")
        assert followed.ended() == 2
    (line,) = followed.errors.read_text().splitlines()
    assert line.startswith("error: the connection to RabbitMQ was lost")


def test_an_event_that_is_told_again_is_the_same_message(told: Service) -> None:
    first, second = asyncio.run(_told_twice(told))
    for name in ("body", "content_type", "delivery_mode", "message_id", "correlation_id", "type"):
        assert getattr(first, name) == getattr(second, name), name
    assert isinstance(second.timestamp, datetime)


async def _told_twice(service: Service) -> tuple[AbstractIncomingMessage, AbstractIncomingMessage]:
    """Return the message of a failed page as the worker has sent it, then as the command does."""
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(f"{service.name}.events", "page.failed")
        url = "http://no-such-host.invalid/again"
        await asyncio.to_thread(tell_of, service, url)
        sent = await queue.get(no_ack=True)
        again = ("republish", "--since", sent_at(sent))
        ran = await asyncio.to_thread(pagemeta, service, *again)
        assert ran.exit_code == 0
        # Perhaps the other page has failed in the same second.
        while (copy := await queue.get(no_ack=True)).message_id != sent.message_id:
            pass
        return sent, copy


def sent_at(message: AbstractIncomingMessage) -> str:
    at = datetime.fromisoformat(json.loads(message.body)["time"])
    return at.replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_dry_run_only_counts(told: Service) -> None:
    with listened_to(told, {}):
        ran = pagemeta(told, "republish", "--since", "2026-01-01T00:00:00Z", "--dry-run", "--json")
        assert as_json(ran) == {"events": 2, "refused": 0}
        late = pagemeta(told, "republish", "--since", "2100-01-01T01:00:00+01:00", "--dry-run")
        assert late.stdout == "0 events to publish\n"
        assert told.queue("listener").ready == 0


def test_a_queue_that_is_full_and_refuses_makes_the_exit_code_1(told: Service) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with listened_to(told, full):
        ran = pagemeta(told, "republish", "--since", "2026-01-01T00:00:00Z")
    assert ran.exit_code == 1
    assert ran.stdout == "2 events published\n"
    assert ran.stderr == (
        "1 of them were refused by the full queue of a listener; others have them\n"
    )


@contextmanager
def listened_to(service: Service, arguments: dict[str, Any]) -> Iterator[None]:
    """Have a queue bound to the events while the block lasts."""
    asyncio.run(_bind_a_queue(service, arguments))
    try:
        yield
    finally:
        asyncio.run(_delete_the_queue(service))


async def _bind_a_queue(service: Service, arguments: dict[str, Any]) -> None:
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(
            f"{service.name}.listener", durable=True, arguments=arguments
        )
        await queue.bind(f"{service.name}.events", "page.*")


async def _delete_the_queue(service: Service) -> None:
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(f"{service.name}.listener")


@pytest.mark.parametrize("command", [("events",), ("republish", "--since", "2026-01-01")])
def test_a_missing_exchange_is_named(service: Service, command: tuple[str, ...]) -> None:
    ran = pagemeta(service, *command)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"error: there is no exchange {service.name}.events")
