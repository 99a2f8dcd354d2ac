"""How many messages a second go into a quorum queue, persistent, each confirmed to its caller."""

from collections.abc import Callable
from functools import partial

from bench.compare.arena import place_in
from bench.compare.programs import Program
from bench.cpu import Rate
from bench.ground import Ground

LOCKED = "locked publisher"


def publish_requests(ground: Ground, *, sender: str) -> Rate:
    """Have 64 callers send as many messages as they can."""
    arguments = ("bench.compare.send", sender, str(ground.site_port))
    with place_in(ground) as place:
        environment = {"BROKER_QUEUE_MAX_LENGTH": "10000000", **place.environment}
        with Program(place.folder, arguments, environment=environment) as program:
            sent = program.wait_for_event("sent", deadline=60)
            return Rate(sent["per_second"], sent["cpu_ms"])


PUBLISHERS: dict[str, Callable[[Ground], Rate]] = {
    "ours": partial(publish_requests, sender="on_ours"),
    LOCKED: partial(publish_requests, sender="on_ours_locked"),
    "FastStream": partial(publish_requests, sender="on_faststream"),
    "Celery": partial(publish_requests, sender="on_celery"),
    "Dramatiq": partial(publish_requests, sender="on_dramatiq"),
    "taskiq": partial(publish_requests, sender="on_taskiq"),
}

REMARKS = {
    "ours": "`RequestPublisher`, one channel, confirms awaited side by side; logs every message",
    LOCKED: "the same, a lock held until each confirm",
    "FastStream": "the same in 64 tasks by FastStream's own publisher, on which ours is built",
    "Celery": "`delay` in 64 threads, a pool of 64 connections, `confirm_publish`",
    "Dramatiq": "`send` in 64 threads, a connection each, `confirm_delivery`",
    "taskiq": "`kiq` in 64 tasks, one channel, which taskiq-aio-pika has in confirm mode",
}
