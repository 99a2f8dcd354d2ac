"""How many messages a second go into a quorum queue, persistent, each confirmed to its caller."""

from collections.abc import Callable
from functools import partial

from bench.compare.arena import place_in
from bench.compare.programs import Program
from bench.ground import Ground

LOCKED = "locked publisher"


def messages_per_second(ground: Ground, *, sender: str) -> float:
    """Have 64 callers send as many messages as they can."""
    arguments = ("bench.compare.send", sender, str(ground.site_port))
    with place_in(ground) as place:
        environment = {"BROKER_QUEUE_MAX_LENGTH": "10000000", **place.environment}
        with Program(place.folder, arguments, environment=environment) as program:
            return float(program.wait_for_event("sent", deadline=60)["per_second"])


PUBLISHERS: dict[str, Callable[[Ground], float]] = {
    "ours": partial(messages_per_second, sender="on_ours"),
    LOCKED: partial(messages_per_second, sender="on_ours_locked"),
    "Celery": partial(messages_per_second, sender="on_celery"),
    "Dramatiq": partial(messages_per_second, sender="on_dramatiq"),
    "taskiq": partial(messages_per_second, sender="on_taskiq"),
}

REMARKS = {
    "ours": "`RequestPublisher`, one channel, confirms awaited side by side; logs every message",
    LOCKED: "the same, a lock held until each confirm",
    "Celery": "`delay` in 64 threads, a pool of 64 connections, `confirm_publish`",
    "Dramatiq": "`send` in 64 threads, a connection each, `confirm_delivery`",
    "taskiq": "`kiq` in 64 tasks, one channel, which taskiq-aio-pika has in confirm mode",
}
