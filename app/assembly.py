"""The parts that both processes have, built from the settings. Nothing connects here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faststream.rabbit import RabbitBroker

from app.broker.cluster import broker_urls
from app.broker.connection import BrokerConnection, Role, make_broker
from app.broker.publisher import ConfirmedPublisher
from app.broker.topology import Topology, build_topology
from app.runtime.settings import Settings
from app.runtime.tracing import message_tracing
from app.store.listing import PageLists
from app.store.mongo import CLIENTS, Database
from app.store.outbox import EventOutbox
from app.store.pages import PageRepository


@dataclass(frozen=True, slots=True)
class Parts:
    """The connections to RabbitMQ and MongoDB, and what a process uses them through.

    This connection to RabbitMQ only publishes. A worker has another one that consumes.
    """

    broker: RabbitBroker
    topology: Topology
    connection: BrokerConnection
    sender: ConfirmedPublisher
    database: Database
    pages: PageRepository
    lists: PageLists
    outbox: EventOutbox


def assemble(settings: Settings, *, service_name: str) -> Parts:
    """Build the parts of one process."""
    connection = _connection(settings, service_name, Role.PUBLISHER)
    database = Database(
        settings.database_url,
        settings.database_name,
        timeout_seconds=settings.database_timeout_seconds,
        backoff=settings.database_backoff,
        retention_days=settings.pages_retention_days,
        client_class=CLIENTS[settings.database_driver],
    )
    patience_seconds = settings.patience.total_seconds()
    return Parts(
        broker=connection.broker,
        topology=connection.topology,
        connection=connection,
        sender=ConfirmedPublisher(
            connection, timeout_seconds=settings.broker_publish_timeout_seconds
        ),
        database=database,
        pages=PageRepository(
            database,
            patience_seconds=patience_seconds,
            notes_reads=settings.pages_retention_days > 0,
        ),
        lists=PageLists(database, patience_seconds=patience_seconds),
        outbox=EventOutbox(database),
    )


def assemble_consumer(
    settings: Settings, *, service_name: str, middlewares: Sequence[Any], decoder: Any
) -> BrokerConnection:
    """Build the connection on which a worker consumes; it adds its subscribers to the broker.

    It is not the one that publishes. So whatever happens to a retry, the messages that are being
    handled stay with the worker: a connection that does not confirm can be dropped, and RabbitMQ
    blocks only connections that publish while it has too little memory or disk.
    """
    return _connection(
        settings, service_name, Role.CONSUMER, middlewares=middlewares, decoder=decoder
    )


def _connection(
    settings: Settings,
    service_name: str,
    role: Role,
    *,
    middlewares: Sequence[Any] = (),
    decoder: Any = None,
) -> BrokerConnection:
    name = f"page-metadata-{service_name}-{role}"
    urls = broker_urls(settings.broker_url, connection_name=name)
    broker = make_broker(
        urls[0],
        service_name=service_name,
        connect_timeout_seconds=settings.broker_publish_timeout_seconds,
        shutdown_grace_seconds=settings.worker_shutdown_grace_seconds,
        middlewares=[*message_tracing(), *middlewares],
        decoder=decoder,
    )
    return BrokerConnection(
        broker,
        topology_of(settings),
        urls=urls,
        backoff=settings.broker_backoff,
        declare_timeout_seconds=settings.broker_publish_timeout_seconds,
        role=role,
    )


def topology_of(settings: Settings) -> Topology:
    """Return the queues that processes with these settings share."""
    return build_topology(
        queue_name=settings.broker_queue_name,
        queue_type=settings.broker_queue_type,
        max_length=settings.broker_queue_max_length,
        retry_delays_seconds=settings.worker_retry_delays_seconds,
    )
