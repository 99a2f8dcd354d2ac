"""What the commands take from the settings."""

from app.broker.topology import Topology, build_topology
from app.settings import Settings


def topology_of(settings: Settings) -> Topology:
    """Return the queues that the processes with these settings use."""
    return build_topology(
        queue_name=settings.broker_queue_name,
        queue_type=settings.broker_queue_type,
        max_length=settings.broker_queue_max_length,
        retry_delays_seconds=settings.worker_retry_delays_seconds,
    )
