"""Both processes stop in order when they are told to, busy or not."""

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from loguru import logger

from app.worker.application import create_app
from dev.stack import Api, Worker
from tests.service import Service, eventually, started
from tests.site import Site

STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT]


class ApiUnderPlainUvicorn(Api):
    """`uvicorn app.api.main:app`: works too, with uvicorn's own bounds."""

    def _command(self) -> list[str]:
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        return [sys.executable, "-m", "uvicorn", "app.api.main:app", *address]


class TwoWorkers(Worker):
    """`faststream run --workers 2`: a supervisor and two processes."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--workers", "2"]


@pytest.mark.parametrize("stop_signal", STOP_SIGNALS)
def test_an_idle_process_stops_with_exit_code_zero(
    service: Service, stop_signal: signal.Signals
) -> None:
    for process in (service.api().start(), service.worker().start()):
        assert process.terminate(stop_signal) == 0


@pytest.mark.parametrize("kind", [ApiUnderPlainUvicorn, TwoWorkers])
@pytest.mark.parametrize("stop_signal", STOP_SIGNALS)
def test_a_process_that_is_started_another_way_stops_in_order_and_logs_as_usual(
    service: Service, kind: type[Api | Worker], stop_signal: signal.Signals
) -> None:
    process = kind(service.folder, environment=service.environment).start()
    assert process.terminate(stop_signal) == 0
    process.wait_for_event("worker_stopped" if kind is TwoWorkers else "api_stopped")
    for line in process.log.read_text().splitlines():
        assert json.loads(line)["service_name"] in ("api", "worker")


def test_the_api_closes_the_publisher_before_the_database(service: Service) -> None:
    api = service.api().start()
    assert api.terminate() == 0
    moves = [event["to"] for event in api.events("publisher_state")]
    assert moves == [
        "CONNECTING",
        "CONNECTED",
        "CHANNEL_OPEN",
        "CONFIRM_ENABLED",
        "QUEUE_DECLARED",
        "READY",
        "CLOSING",
        "CLOSED",
    ]
    api.wait_for_event("publisher_shutdown")
    api.wait_for_event("api_stopped")


def test_an_api_that_is_stopped_while_busy_loses_no_accepted_request(
    service: Service, site: Site
) -> None:
    api = service.api(BROKER_QUEUE_MAX_LENGTH="10000").start()
    with ThreadPoolExecutor(16) as pool:
        urls = [site.url(f"/page/{n}") for n in range(400)]
        answers = pool.map(lambda url: _accepted(service, api, url), urls)
        api.wait_for_event("publish_success", count=50)
        assert api.terminate() == 0
        accepted = {request_id for request_id in answers if request_id}
    assert 50 <= len(accepted) <= 400
    published = {event["request_id"] for event in api.events("publish_success")}
    assert accepted <= published
    assert service.queue("requests").ready == len(published)


def _accepted(service: Service, api: object, url: str) -> str | None:
    try:
        answer = service.post(api, url)  # type: ignore[arg-type]
    except httpx.TransportError:
        return None
    return answer.json()["request_id"] if answer.status_code == 202 else None


def test_a_worker_that_is_stopped_while_busy_finishes_its_fetches(
    service: Service, site: Site
) -> None:
    api, worker = started(service.api(), service.worker(WORKER_CONCURRENCY="4"))
    urls = [site.url(f"/held/{n}") for n in range(12)]
    for url in urls:
        service.post(api, url)
    worker.wait_for_event("fetch_started", count=4)
    with ThreadPoolExecutor(1) as pool:
        exit_code = pool.submit(worker.terminate)
        worker.wait_for_event("consumers_cancelled")
        site.release()
        assert exit_code.result() == 0
    assert len(worker.events("metadata_persisted")) == 4
    assert len(worker.events("message_received")) == 4
    eventually(lambda: service.queue("requests").ready, lambda ready: ready == 8)

    service.worker().start()
    for url in urls:
        assert service.ended(api, url)["status"] == "COMPLETED"
    assert all(count == 1 for count in site.hits.values())


def test_a_worker_that_stops_leaves_waiting_messages_to_other_workers(
    service: Service, site: Site
) -> None:
    api, worker = started(service.api(), service.worker(WORKER_CONCURRENCY="2"))
    for path in ("/held/1", "/slow/2000/2"):
        service.post(api, site.url(path))
    worker.wait_for_event("fetch_started", count=2)
    waiting = [site.url(f"/page/{n}") for n in range(2)]
    for url in waiting:
        service.post(api, url)
    with ThreadPoolExecutor(1) as pool:
        exit_code = pool.submit(worker.terminate)
        worker.wait_for_event("consumers_cancelled")
        worker.wait_for_event("metadata_persisted")
        service.worker().start()
        for url in waiting:
            assert service.ended(api, url, within=10)["status"] == "COMPLETED"
        assert not exit_code.done()
        site.release()
        assert exit_code.result() == 0


def test_a_worker_whose_fetches_outlast_its_grace_gives_their_messages_back(
    service: Service, site: Site
) -> None:
    api = service.api().start()
    worker = service.worker(WORKER_SHUTDOWN_GRACE_SECONDS="1").start()
    url = site.url("/held/page")
    service.post(api, url)
    worker.wait_for_event("fetch_started")
    assert worker.terminate() == 0
    site.release()
    service.worker().start()
    assert service.ended(api, url)["status"] == "COMPLETED"


@pytest.mark.parametrize("stop_signal", STOP_SIGNALS)
def test_a_process_that_is_still_connecting_stops_at_once(
    service: Service, stop_signal: signal.Signals
) -> None:
    nobody = {"BROKER_URL": "amqp://127.0.0.1:1/", "BROKER_MAX_CONNECTION_ATTEMPTS": "100"}
    for process in (service.api(**nobody), service.worker(**nobody)):
        process.launch().wait_for_event("rmq_connect_failed")
        assert process.terminate(stop_signal, deadline=5) == 0


async def test_a_worker_that_is_stopped_while_it_subscribes_ends_in_order(service: Service) -> None:
    logged: list[str] = []
    handler = logger.add(lambda line: logged.append(line.record["message"]))
    async with create_app(service.settings).start_lifespan_context({}):
        pass  # FastStream goes on subscribing beside this.
    logger.remove(handler)
    wanted = {"worker_stopping", "worker_started", "consumers_cancelled", "worker_stopped"}
    assert [event for event in logged if event in wanted] == [
        "worker_stopping",
        "worker_started",
        "consumers_cancelled",
        "worker_stopped",
    ]
