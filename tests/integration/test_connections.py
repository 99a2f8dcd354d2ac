"""Start-up gives up after some attempts; a reconnection never does."""

import asyncio
from unittest.mock import AsyncMock

import aio_pika

from tests.service import Service, started
from tests.site import Site

NO_SERVER = "127.0.0.1:1"


def test_an_api_without_a_broker_ends_after_its_attempts(service: Service) -> None:
    api = service.api(
        BROKER_URL=f"amqp://{NO_SERVER}/", BROKER_MAX_CONNECTION_ATTEMPTS="3"
    ).launch()
    assert api.wait() != 0
    attempts = [(e["attempt"], e["delay"]) for e in api.events("rmq_connect_attempt")]
    assert attempts == [(1, 0.0), (2, 0.2), (3, 0.4)]
    assert len(api.events("rmq_connect_failed")) == 3
    assert "BROKER_URL" in api.log.read_text()


def test_both_processes_connect_to_the_first_host_that_answers(
    service: Service, site: Site
) -> None:
    hosts = {"BROKER_URL": service.rabbitmq.url.replace("@", f"@{NO_SERVER},")}
    api, worker = started(service.api(**hosts), service.worker(**hosts))
    for process, connections in ((api, ["publisher"]), (worker, ["consumer", "publisher"])):
        failed = process.events("rmq_connect_failed")
        assert sorted(event["connection"] for event in failed) == connections
    service.post(api, site.url("/page"))
    assert service.ended(api, site.url("/page"))["status"] == "COMPLETED"


def test_an_api_without_a_database_ends_after_its_attempts(service: Service) -> None:
    api = service.api(
        DATABASE_URL=f"mongodb://{NO_SERVER}",
        DATABASE_TIMEOUT_SECONDS="0.2",
        DATABASE_MAX_CONNECTION_ATTEMPTS="2",
    ).launch()
    assert api.wait() != 0
    assert [e["attempt"] for e in api.events("db_connect_attempt")] == [1, 2]
    assert "DATABASE_URL" in api.log.read_text()


def test_a_worker_without_a_broker_ends_after_its_attempts(service: Service) -> None:
    worker = service.worker(
        BROKER_URL=f"amqp://{NO_SERVER}/", BROKER_MAX_CONNECTION_ATTEMPTS="2"
    ).launch()
    assert worker.wait() != 0
    assert "BROKER_URL" in worker.log.read_text()


def test_a_bad_setting_stops_both_processes_and_is_named(service: Service) -> None:
    bad = {"WORKER_CONCURRENCY": "none"}
    for process in (service.api(**bad).launch(), service.worker(**bad).launch()):
        assert process.wait() == 1
        assert "WORKER_CONCURRENCY" in process.log.read_text()


def test_a_queue_with_other_arguments_stops_both_processes_and_is_explained(
    service: Service,
) -> None:
    service.api().start().stop()
    other = {"BROKER_QUEUE_MAX_LENGTH": "7"}
    for process in (service.api(**other).launch(), service.worker(**other).launch()):
        assert process.wait() != 0
        log = process.log.read_text()
        assert f"{service.name}.requests" in log
        assert "x-max-length" in log
        assert "BROKER_QUEUE_NAME" in log


async def test_a_worker_that_cannot_subscribe_ends_with_status_1(service: Service) -> None:
    classic = {"BROKER_QUEUE_TYPE": "classic"}
    service.api(**classic).start()  # declares the queues
    async with await aio_pika.connect(service.rabbitmq.url) as connection:
        channel = await connection.channel()
        requests = await channel.get_queue(f"{service.name}.requests")
        await requests.consume(AsyncMock(), exclusive=True)
        worker = service.worker(**classic).launch()
        assert await asyncio.to_thread(worker.wait) == 1
    worker.wait_for_event("ended_by_itself")


def test_both_processes_work_again_after_the_broker_was_stopped_and_started(
    fragile: Service, site: Site
) -> None:
    api, worker = started(fragile.api(), fragile.worker())
    fragile.rabbitmq.stop()
    api.wait_for_event("rmq_connection_lost")
    assert fragile.post(api, site.url("/page")).status_code == 503
    assert not fragile.is_ready(api)
    api.wait_for_event("publish_rejected", reason="publisher_not_ready")
    api.wait_for_event("rmq_reconnect_attempt", attempt=3)

    fragile.rabbitmq.start()
    api.wait_for_event("rmq_reconnected")
    worker.wait_for_event("rmq_reconnected")
    assert fragile.is_ready(api)
    assert fragile.post(api, site.url("/page")).status_code == 202
    assert fragile.ended(api, site.url("/page"))["status"] == "COMPLETED"
    states = [event["to"] for event in api.events("publisher_state")]
    assert states[states.index("RECONNECTING") :] == [
        "RECONNECTING",
        "CONNECTED",
        "CHANNEL_OPEN",
        "CONFIRM_ENABLED",
        "QUEUE_DECLARED",
        "READY",
    ]
