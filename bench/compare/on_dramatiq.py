"""Dramatiq on RabbitMQ."""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench.compare import collecting
from bench.compare.sending import Sending


class QuorumBroker(RabbitmqBroker):
    """Declares quorum queues. Dramatiq 2.2 has no option for that, so this overrides its method."""

    def _build_queue_arguments(self, queue_name: str) -> Any:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


broker = QuorumBroker(url=os.environ["BROKER_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="pages")
def collect(url: str) -> None:
    """Fetch a page and store it."""
    collecting.collect(url)


queue = collect.send


def send(sending: Sending) -> None:
    """Send from threads, each with a connection of its own."""
    sending.in_threads(queue)
    broker.close()
