"""The parts that both processes have, built from the settings. Nothing connects here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faststream.rabbit import RabbitBroker

from app.broker.cluster import broker_urls
from app.broker.connection import BrokerConnection, make_broker
from app.broker.publisher import ConfirmedPublisher
from app.broker.topology import Topology, build_topology
from app.runtime.settings import Settings
from app.runtime.tracing import message_tracing
from app.store.mongo import Database
from app.store.pages import PageRepository


@dataclass(frozen=True, slots=True)
class Parts:
    """The connections to RabbitMQ and MongoDB, and what a process uses them through."""

    broker: RabbitBroker
    topology: Topology
    connection: BrokerConnection
    sender: ConfirmedPublisher
    database: Database
    pages: PageRepository


def assemble(
    settings: Settings,
    *,
    service_name: str,
    middlewares: Sequence[Any] = (),
    decoder: Any = None,
) -> Parts:
    """Build the parts of one process. `middlewares` and `decoder` are for received messages."""
    urls = broker_urls(settings.broker_url)
    broker = make_broker(
        urls[0],
        service_name=service_name,
        connect_timeout_seconds=settings.broker_publish_timeout_seconds,
        shutdown_grace_seconds=settings.worker_shutdown_grace_seconds,
        middlewares=[*message_tracing(), *middlewares],
        decoder=decoder,
    )
    topology = topology_of(settings)
    connection = BrokerConnection(
        broker,
        topology,
        urls=urls,
        backoff=settings.broker_backoff,
        declare_timeout_seconds=settings.broker_publish_timeout_seconds,
    )
    database = Database(
        settings.database_url,
        settings.database_name,
        timeout_seconds=settings.database_timeout_seconds,
        backoff=settings.database_backoff,
    )
    return Parts(
        broker=broker,
        topology=topology,
        connection=connection,
        sender=ConfirmedPublisher(
            connection, timeout_seconds=settings.broker_publish_timeout_seconds
        ),
        database=database,
        pages=PageRepository(database, patience_seconds=settings.patience.total_seconds()),
    )


def topology_of(settings: Settings) -> Topology:
    """Return the queues that processes with these settings share."""
    return build_topology(
        queue_name=settings.broker_queue_name,
        queue_type=settings.broker_queue_type,
        max_length=settings.broker_queue_max_length,
        retry_delays_seconds=settings.worker_retry_delays_seconds,
    )
