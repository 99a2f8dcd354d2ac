"""A broker that is killed, restarted, frozen or out of memory, under load."""

import asyncio
from collections.abc import Callable

import pytest

from app.assembly import assemble
from app.broker.publisher import RequestPublisher
from app.errors import PublishFailed
from tests.fakes import a_request
from tests.load import Load, assert_nothing_is_lost
from tests.messages import move_dead_letters_within, publish
from tests.scrape import Scrape
from tests.service import Service, eventually, started
from tests.site import Site

CONFIRM_TIMEOUT_SECONDS = 5.0


def _kill(service: Service) -> None:
    service.wait_until_queues_are_on_disk()
    service.rabbitmq.kill()
    service.rabbitmq.start()


def _restart(service: Service) -> None:
    service.rabbitmq.restart()


def _freeze(service: Service) -> None:
    service.rabbitmq.pause()
    try:
        service.wait_until_unready()
    finally:
        service.rabbitmq.resume()


@pytest.mark.parametrize("fault", [_kill, _restart, _freeze])
def test_a_broker_that_is_away_for_a_while_loses_nothing(
    fragile: Service, site: Site, fault: Callable[[Service], None]
) -> None:
    api, worker = started(fragile.api(), fragile.worker())
    load = Load(fragile, api, (site.url(f"/slow/20/{n}") for n in range(1_000_000))).start()
    worker.wait_for_event("metadata_persisted", count=30)
    fault(fragile)
    api.wait_for_event("rmq_reconnected", deadline=60)
    worker.wait_for_event("rmq_reconnected", deadline=60)
    before = len(load.accepted)
    eventually(lambda: len(load.accepted), lambda count: count > before + 30)
    load.stop()
    assert set(load.answers) == {202, 503}
    assert load.slowest < CONFIRM_TIMEOUT_SECONDS + 2
    assert fragile.is_ready(api)
    # Of the worker's two connections only one has surely been restored.
    eventually(lambda: fragile.is_ready(worker), bool)
    assert_nothing_is_lost(fragile, site)


def test_a_connection_that_does_not_confirm_is_renewed(fragile: Service, site: Site) -> None:
    api = fragile.api(BROKER_PUBLISH_TIMEOUT_SECONDS="1").start()
    fragile.rabbitmq.pause()
    try:
        assert fragile.post(api, site.url("/1")).status_code == 503
        # Heartbeats would need half a minute to notice.
        api.wait_for_event("rmq_connection_lost", deadline=5, reason="confirm_timeout")
        assert not fragile.is_ready(api)
        assert fragile.post(api, site.url("/2")).status_code == 503
        api.wait_for_event("publish_rejected", url=site.url("/2"))
    finally:
        fragile.rabbitmq.resume()
    api.wait_for_event("rmq_reconnected")
    assert fragile.post(api, site.url("/3")).status_code == 202


def test_post_answers_503_during_a_memory_alarm(fragile: Service, site: Site) -> None:
    api = fragile.api(BROKER_PUBLISH_TIMEOUT_SECONDS="1").start()
    fragile.worker().start()
    fragile.rabbitmq.ctl("set_vm_memory_high_watermark", "0.0001")
    assert fragile.post(api, site.url("/1")).status_code == 503
    assert not fragile.is_ready(api)
    blocked = "publisher is blocked by a resource alarm of the broker"
    api.wait_for_event("readiness_failed", reason=blocked)
    assert fragile.post(api, site.url("/2")).status_code == 503
    api.wait_for_event("publish_rejected", url=site.url("/2"))
    assert not api.events("rmq_connection_lost")
    fragile.rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
    eventually(lambda: fragile.is_ready(api), bool)
    assert fragile.post(api, site.url("/3")).status_code == 202
    assert_nothing_is_lost(fragile, site)


def test_both_processes_wait_for_a_broker_that_starts_late(fragile: Service, site: Site) -> None:
    fragile.rabbitmq.stop()
    patient = {"BROKER_MAX_CONNECTION_ATTEMPTS": "100"}
    api, worker = fragile.api(**patient).launch(), fragile.worker(**patient).launch()
    for process in (api, worker):
        process.wait_for_event("rmq_connect_failed", count=2)
    fragile.rabbitmq.start()
    for process in (api, worker):
        process.wait_until_ready()
    assert fragile.post(api, site.url("/page")).status_code == 202
    assert_nothing_is_lost(fragile, site)


@pytest.mark.parametrize("away", ["killed", "frozen"])
def test_both_processes_stop_cleanly_while_the_broker_is_away(
    fragile: Service, site: Site, away: str
) -> None:
    api, worker = started(fragile.api(), fragile.worker())
    assert fragile.post(api, site.url("/held/page")).status_code == 202
    worker.wait_for_event("fetch_started")
    fragile.wait_until_queues_are_on_disk()
    {"killed": fragile.rabbitmq.kill, "frozen": fragile.rabbitmq.pause}[away]()
    site.release()
    for process in (api, worker):
        assert process.terminate(deadline=30) == 0
    fragile.rabbitmq.resume() if away == "frozen" else fragile.rabbitmq.start()
    worker.start()
    assert_nothing_is_lost(fragile, site)


async def test_a_connection_closes_in_time_while_the_broker_reads_nothing_and_the_socket_is_full(
    fragile: Service,
) -> None:
    settings = fragile.settings.model_copy(update={"broker_publish_timeout_seconds": 4})
    api = assemble(settings, service_name="api")
    publisher = RequestPublisher(api.sender, api.topology)
    await api.connection.open()
    fragile.rabbitmq.pause()
    urls = (f"http://example.com/{number}?{'x' * 2000}" for number in range(4000))
    publishing = [publisher.publish(a_request(url)) for url in urls]  # eight megabytes
    failures = await asyncio.gather(*publishing, return_exceptions=True)
    assert {type(failure) for failure in failures} == {PublishFailed}
    async with asyncio.timeout(10):
        await api.sender.close()


@pytest.mark.parametrize("source", ["requests", "retries"])
def test_dead_letters_are_not_lost_while_their_queue_is_missing(
    fragile: Service, source: str
) -> None:
    move_dead_letters_within(fragile.rabbitmq, seconds=2)
    worker = fragile.worker().start()
    fragile.rabbitmq.ctl("delete_queue", f"{fragile.name}.dead")
    publish(fragile, [b"{"] * 5, queue=source)
    worker.wait_for_event("message_dead_lettered", count=5)
    worker.wait_for_event("queues_missing", queues=[f"{fragile.name}.dead"])
    worker.wait_for_event("queues_declared_again")
    eventually(lambda: fragile.queue("dead").ready, lambda count: count == 5)


def test_retries_are_not_lost_while_their_queue_is_missing(fragile: Service, site: Site) -> None:
    """Retries whose delay ends meanwhile stay in the retry queue until `metadata.retries` is back.

    No process may declare queues for a while, so that it stays away for longer than the delay.
    """
    move_dead_letters_within(fragile.rabbitmq, seconds=2)
    api, worker = started(fragile.api(), fragile.worker())
    urls = [site.url(f"/flaky/1/{n}") for n in range(10)]
    fragile.rabbitmq.ctl("set_permissions", "guest", "^$", ".*", ".*")
    fragile.rabbitmq.ctl("delete_queue", f"{fragile.name}.retries")
    for url in urls:
        assert fragile.post(api, url).status_code == 202
    worker.wait_for_event("metadata_retryable_failure", count=len(urls))
    worker.wait_for_event("queues_missing", queues=[f"{fragile.name}.retries"])
    eventually(lambda: fragile.queue("retry.1s").ready, lambda ready: ready == 0)
    fragile.rabbitmq.ctl("set_permissions", "guest", ".*", ".*", ".*")
    assert_nothing_is_lost(fragile, site, within=90)


@pytest.mark.parametrize("queue", ["dead", "retries", "retry.1s", "requests"])
@pytest.mark.parametrize("process", ["api", "worker"])
def test_a_deleted_queue_is_declared_again_within_seconds(
    service: Service, queue: str, process: str
) -> None:
    running = service.api().start() if process == "api" else service.worker().start()
    service.rabbitmq.ctl("delete_queue", f"{service.name}.{queue}")
    eventually(service.queue_names, lambda names: queue in names, within=10)
    eventually(lambda: service.is_ready(running), bool)


def test_readiness_names_a_missing_queue_that_can_not_be_declared(fragile: Service) -> None:
    api = fragile.api().start()
    dead = f"{fragile.name}.dead"
    fragile.rabbitmq.ctl("set_permissions", "guest", "^$", ".*", ".*")  # it may declare nothing
    fragile.rabbitmq.ctl("delete_queue", dead)
    eventually(lambda: fragile.is_ready(api), lambda ready: not ready)
    api.wait_for_event("readiness_failed", reason=f"missing at the broker: {dead}")
    api.wait_for_event("rmq_connect_failed", count=2)
    fragile.rabbitmq.ctl("set_permissions", "guest", ".*", ".*", ".*")
    eventually(lambda: fragile.is_ready(api), bool)
    assert "dead" in fragile.queue_names()


# --- What the API answers meanwhile, and what is still there afterwards ---


def test_the_loss_of_the_broker_shows_at_once(fragile: Service) -> None:
    api = fragile.api().start()
    assert Scrape(api)("page_metadata_queue_messages") == 0
    fragile.rabbitmq.kill()
    api.wait_for_event("rmq_connection_lost")
    seen = Scrape(api)
    assert seen("page_metadata_publisher_ready") == 0
    state = {"page_metadata_publisher_state": "RECONNECTING"}
    assert seen("page_metadata_publisher_state", **state) == 1
    assert seen("page_metadata_queue_messages") is None
    assert fragile.post(api, "http://example.com/").status_code == 503
    rejected = {"outcome": "publisher_not_ready"}
    assert Scrape(api)("page_metadata_publish_seconds_count", **rejected) == 1


def test_a_stale_result_is_answered_while_the_broker_is_away(fragile: Service, site: Site) -> None:
    api, worker = fragile.api().start(), fragile.worker().start()
    url = site.url("/page")
    fragile.post(api, url)
    before = fragile.ended(api, url)
    worker.terminate()
    fragile.rabbitmq.kill()
    fragile.wait_until_unready()
    for _ in range(2):
        answer = fragile.get(api, url, max_age=0)
        assert (answer.status_code, answer.json()["stale"]) == (200, True)
        assert (answer.json()["refresh"], answer.json()["updated_at"]) == (
            None,
            before["updated_at"],
        )
    assert len(api.events("refresh_not_queued")) == 2


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_queued_requests_survive_a_restart_of_the_broker(
    fragile: Service, site: Site, queue_type: str
) -> None:
    # A classic queue keeps persistent messages only.
    fragile.environment["BROKER_QUEUE_TYPE"] = queue_type
    api = fragile.api().start()
    urls = [site.url(f"/page/{n}") for n in range(20)]
    for url in urls:
        assert fragile.post(api, url).status_code == 202
    fragile.rabbitmq.restart()
    fragile.worker().start()
    eventually(
        lambda: fragile.pages.count_documents({"status": "COMPLETED"}), lambda count: count == 20
    )
