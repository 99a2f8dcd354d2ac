"""What both processes are made of, put together from the settings. Nothing connects here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faststream.rabbit import RabbitBroker
from faststream.rabbit.prometheus import RabbitPrometheusMiddleware

from app.broker.connection import BrokerConnection, broker_urls, make_broker
from app.broker.publisher import ConfirmedPublisher
from app.broker.topology import Topology, build_topology
from app.runtime.metrics import REGISTRY
from app.runtime.settings import Settings
from app.runtime.tracing import NO_TRACING, Tracing
from app.store.mongo import Database
from app.store.pages import PageRepository


@dataclass(frozen=True, slots=True)
class Parts:
    """The two edges a process talks to, and what it says to them."""

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
    tracing: Tracing = NO_TRACING,
    middlewares: Sequence[Any] = (),
    **consumer_options: Any,
) -> Parts:
    """Return the parts of one process; a consumer adds its decoder and middlewares."""
    urls = broker_urls(settings.broker_url)
    broker = make_broker(
        urls[0],
        service_name=service_name,
        connect_timeout_seconds=settings.broker_publish_timeout_seconds,
        shutdown_grace_seconds=settings.worker_shutdown_grace_seconds,
        middlewares=[
            *tracing.middlewares(),
            RabbitPrometheusMiddleware(registry=REGISTRY, app_name=service_name),
            *middlewares,
        ],
        **consumer_options,
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
        pages=tracing.traced(
            PageRepository(database, patience_seconds=settings.patience.total_seconds()), "pages"
        ),
    )


def topology_of(settings: Settings) -> Topology:
    """Return the queues that the processes with these settings use."""
    return build_topology(
        queue_name=settings.broker_queue_name,
        queue_type=settings.broker_queue_type,
        max_length=settings.broker_queue_max_length,
        retry_delays_seconds=settings.worker_retry_delays_seconds,
    )
