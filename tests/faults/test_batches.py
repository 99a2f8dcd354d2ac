"""Batches while the broker or the API is killed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import httpx
import pytest

from dev.stack import Api
from tests.load import assert_nothing_is_lost
from tests.service import Service, eventually, started
from tests.site import Site


@contextmanager
def batches(service: Service, api: Api, site: Site) -> Iterator[None]:
    """Post one batch of 100 pages after another while the block lasts."""
    stop = Event()

    def post() -> None:
        number = 0
        while not stop.wait(0.05):
            urls = [site.url(f"/{number + it}") for it in range(100)]
            number += len(urls)
            with suppress(httpx.TransportError):
                service.post_batch(api, urls)

    thread = Thread(target=post)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def _broker(service: Service, _api: Api) -> None:
    service.wait_until_queues_are_on_disk()
    service.rabbitmq.kill()
    service.rabbitmq.start()


def _api(_service: Service, api: Api) -> None:
    api.kill()
    api.start()


@pytest.mark.parametrize("kill", [_broker, _api])
def test_whatever_was_accepted_of_a_batch_is_fetched(
    fragile: Service, site: Site, kill: Callable[[Service, Api], None]
) -> None:
    settings = {"BROKER_QUEUE_MAX_LENGTH": "300"}
    api, worker = started(fragile.api(**settings), fragile.worker(**settings))
    with batches(fragile, api, site):
        worker.wait_for_event("metadata_persisted", count=100)
        kill(fragile, api)
        before = len(fragile.history.posts)
        eventually(
            lambda: [it for it in fragile.history.posts[before:] if it.is_accepted],
            lambda accepted: len(accepted) > 100,
            within=60,
        )
    assert any(not it.is_accepted for it in fragile.history.posts)
    assert_nothing_is_lost(fragile, site)
