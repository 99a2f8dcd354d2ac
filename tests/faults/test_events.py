"""Listeners that are away, full or broken, and a broker that is away when something is to be told.

That each outcome is told at least once is judged by the checker in every other fault too.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import aio_pika
import pytest
from pamqp.common import FieldValue

from app.assembly import topology_of
from tests.example_listener import EXAMPLES, QUEUE, listening
from tests.load import Load, assert_nothing_is_lost, supervised
from tests.messages import bind_to_events
from tests.plain_http import CLIENT
from tests.service import Service, eventually, started
from tests.site import Site


def finished(service: Service) -> Callable[[], int]:
    """Return what counts the pages that have a result."""
    return lambda: service.pages.count_documents({"status": "COMPLETED"})


def pages_of(site: Site) -> Iterator[str]:
    return (site.url(f"/page/{n}") for n in count())


@pytest.mark.representative
def test_the_full_queue_of_a_listener_holds_up_no_page_and_no_other_listener(
    service: Service, site: Site
) -> None:
    refusing: dict[str, FieldValue] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    bind_to_events(service, service.rabbitmq.url, refusing)
    api, worker = started(service.api(), service.worker())
    load = Load(service, api, pages_of(site)).start()
    worker.wait_for_event("metadata_persisted", count=100)
    load.stop()
    assert_nothing_is_lost(service, site)
    assert worker.events("publish_failed", reason="queue_rejected")


def test_pages_are_finished_while_there_is_no_exchange_and_told_once_it_is_back(
    service: Service, site: Site
) -> None:
    """With the exchange its bindings are gone, so a listener has to bind its queue again."""
    api, worker = started(service.api(), service.worker())
    load = Load(service, api, pages_of(site)).start()
    worker.wait_for_event("metadata_persisted", count=30)
    exchange = topology_of(service.settings).events.name

    async def delete() -> None:
        async with await aio_pika.connect(service.rabbitmq.url) as connection:
            channel = await connection.channel()
            await channel.exchange_delete(exchange)

    asyncio.run(delete())
    bind_to_events(service, service.rabbitmq.url, {})
    done = len(worker.events("metadata_persisted"))
    worker.wait_for_event("metadata_persisted", count=done + 50)
    load.stop()
    eventually(lambda: service.is_ready(worker), bool)
    some = {"unpublished.0": {"$exists": True}}
    eventually(lambda: service.pages.find_one(some), lambda page: page is None)


def test_deletions_are_told_after_the_broker_was_away(fragile: Service, site: Site) -> None:
    api, _ = started(fragile.api(), fragile.worker())
    urls = [site.url(f"/page/{n}") for n in range(20)]
    for url in urls:
        fragile.post(api, url)
    for url in urls:
        fragile.ended(api, url)
    fragile.wait_until_queues_are_on_disk()
    fragile.rabbitmq.kill()
    assert {fragile.delete(api, url).status_code for url in urls} == {204}
    fragile.rabbitmq.start()
    assert fragile.listener is not None
    heard = fragile.listener.heard
    eventually(
        lambda: {it.url for it in heard if b"page.deleted" in it.body},
        lambda told: told == set(urls),
        within=60,
    )


@pytest.mark.parametrize("path", ["/slow/1500", "/failing/1"], ids=["fetched", "to be retried"])
def test_a_page_that_is_deleted_on_its_way_does_not_come_back(
    service: Service, site: Site, path: str
) -> None:
    site.failing = True
    api, worker = started(service.api(), service.worker())
    url = site.url(path)
    service.post(api, url)
    begun = "fetch_started" if path.startswith("/slow") else "metadata_retryable_failure"
    worker.wait_for_event(begun)
    assert service.delete(api, url).status_code == 204
    worker.wait_for_event("request_coalesced")
    assert service.get(api, url, queue="false").status_code == 404
    assert service.pages.count_documents({"status": {"$ne": "DELETED"}}) == 0


def test_a_program_that_knows_the_document_alone_hears_every_outcome_once(
    fragile: Service, site: Site
) -> None:
    """It ignores copies, by the id of the event. So it prints a line for each outcome."""
    api, worker = fragile.api().start(), fragile.worker()
    document = fragile.folder / "worker.yaml"
    document.write_bytes(CLIENT.get(f"{api.url}/asyncapi/worker.yaml").content)
    script, queue = EXAMPLES / "aio_pika_listener" / "listener.py", f"{fragile.name}.{QUEUE}"
    command = [sys.executable, "-I", str(script), str(document), fragile.rabbitmq.url, queue]
    with listening(fragile, command, fragile.folder) as listener, supervised(worker.launch):
        # A few pages are refreshed all the time, so that they have many outcomes.
        urls = (site.url(f"/page/{n}" if n % 3 else f"/page/refreshed/{n % 7}") for n in count())
        load = Load(fragile, api, urls).start()
        for kills in range(3):
            eventually(finished(fragile), (20 * kills).__lt__, within=60)
            worker.kill()
        fragile.rabbitmq.restart()
        before = len(load.accepted)
        eventually(lambda: len(load.accepted), lambda accepted: accepted > before + 100, within=60)
        load.stop()
        assert_nothing_is_lost(fragile, site)
        outcomes = {
            page["url"]: page["processing"]["outcome"]
            for page in fragile.pages.find({}, {"url": True, "processing.outcome": True})
        }
        assert max(outcomes.values()) > 1
        eventually(lambda: Counter(url for _, url, _ in listener.events()), outcomes.__eq__)
