"""Celery on RabbitMQ."""

import os

from celery import Celery

from bench.compare import collecting
from bench.compare.sending import CALLERS, Sending

app = Celery("compare", broker=os.environ["BROKER_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_pool_limit=CALLERS,  # one connection for each thread that publishes
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_default_delivery_mode="persistent",
    task_default_queue="pages",
    task_default_queue_type="quorum",
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)


@app.task(name="collect")
def collect(url: str) -> None:
    """Fetch a page and store it."""
    collecting.collect(url)


queue = collect.delay


def send(sending: Sending) -> None:
    """Send from threads, each with a connection of the pool."""
    sending.in_threads(queue)
