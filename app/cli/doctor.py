"""`doctor`: checks settings, servers, queues, indexes and the API, and says what to do."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

import httpx
import typer
from aio_pika.abc import AbstractRobustConnection
from rich.table import Table
from rich.text import Text

from app.assembly import topology_of
from app.broker.cluster import connected
from app.broker.queues import Counts, count_queues
from app.broker.topology import Topology, declare
from app.cli.showing import visible
from app.cli.terminal import (
    DEFAULT_API,
    EXIT_BAD_RESULT,
    ApiUrl,
    Json,
    console,
    print_json,
    read_settings,
    run,
)
from app.errors import BrokerUnreachable, DatabaseUnreachable, TopologyMismatch
from app.runtime.settings import Settings
from app.store.indexes import LISTING_INDEXES
from app.store.inspection import DatabaseFacts, database_facts

MAKE_INDEXES = "start the API or a worker; those of lists are made by `pagemeta migrate`"
START_THE_SERVICE = "start the API or a worker: at start they create what is missing"


class Verdict(StrEnum):
    """The result of a check. With a warning the service still works."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


OTHER_INDEXES = {
    *("created_at", "processing.waiting", "processing.covered.request_id"),
    *("unpublished.event_id", "deleted_at"),
    *(name for ((name, _), *_) in LISTING_INDEXES.values()),
}


def doctor(*, api: ApiUrl = DEFAULT_API, as_json: Json = False) -> None:
    """Check settings, broker, queues, database, indexes and the API. Nothing is changed.

    Exit code: 0 without a problem (warnings do not count), 1 with one, 2 with invalid settings.
    """
    findings = run(_examine(read_settings(), api))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        raise typer.Exit(EXIT_BAD_RESULT)


async def _examine(settings: Settings, api: str) -> list[Finding]:
    return [
        *_about_settings(settings),
        *await _about_broker(settings),
        *_about_database(settings),
        await _about_api(api),
    ]


def _about_settings(settings: Settings) -> Iterator[Finding]:
    yield Finding("settings", Verdict.OK, "all are valid")
    if settings.fetch_allowed_networks:
        exempt = ", ".join(str(network) for network in settings.fetch_allowed_networks)
        yield Finding(
            "guard",
            Verdict.WARNING,
            f"pages at addresses in {exempt} are fetched",
            "leave FETCH_ALLOWED_NETWORKS empty in production",
        )
    if settings.worker_lease_seconds < 2 * settings.fetch_total_timeout_seconds:
        yield Finding(
            "lease",
            Verdict.WARNING,
            f"a claim holds for {settings.worker_lease_seconds:g} s, a fetch may take "
            f"{settings.fetch_total_timeout_seconds:g} s",
            "set WORKER_LEASE_SECONDS to several times FETCH_TOTAL_TIMEOUT_SECONDS",
        )


async def _about_broker(settings: Settings) -> list[Finding]:
    topology = topology_of(settings)
    timeout = settings.broker_publish_timeout_seconds
    try:
        async with connected(settings.broker_url, timeout_seconds=timeout) as connection:
            counts = await count_queues(connection.channel, topology)
            mismatches = await _mismatches(connection, topology, counts)
    except BrokerUnreachable as exc:
        advice = "start RabbitMQ, or correct BROKER_URL"
        return [Finding("broker", Verdict.PROBLEM, str(exc), advice)]
    return [
        Finding("broker", Verdict.OK, "answers"),
        *_about_queues(counts, mismatches),
        *_about_consumers(topology, counts),
    ]


async def _mismatches(
    connection: AbstractRobustConnection, topology: Topology, counts: Counts
) -> list[str]:
    found = []
    existing = [queue for queue in topology if counts[queue.name] is not None]
    for queue in existing:
        try:
            # A queue that exists is not changed by this: the broker compares the arguments.
            await declare(connection, [queue])
        except TopologyMismatch as exc:
            found.append(str(exc))
    return found


def _about_queues(counts: Counts, mismatches: list[str]) -> Iterator[Finding]:
    missing = [name for name, one in counts.items() if one is None]
    if missing:
        found = f"missing: {', '.join(missing)}"
        yield Finding("queues", Verdict.PROBLEM, found, START_THE_SERVICE)
    for mismatch in mismatches:
        advice = "see `Upgrades` in docs/operations.md"
        yield Finding("queues", Verdict.PROBLEM, mismatch, advice)
    if not missing and not mismatches:
        yield Finding("queues", Verdict.OK, f"{len(counts)} queues, with the right arguments")


def _about_consumers(topology: Topology, counts: Counts) -> Iterator[Finding]:
    consumed = {queue.name: counts[queue.name] for queue in topology.consumed}
    idle = [name for name, one in consumed.items() if one is not None and not one.consumers]
    if idle:
        found = f"no consumer for {', '.join(idle)}"
        yield Finding("workers", Verdict.PROBLEM, found, "start a worker")
    elif all(consumed.values()):
        consumers = min(one.consumers for one in consumed.values() if one)
        yield Finding("workers", Verdict.OK, f"{consumers} consumers")
    dead = counts[topology.dead.name]
    if dead is not None and dead.messages:
        found = f"{dead.messages} dead letters to look at"
        advice = "`pagemeta dead-letters list`"
        yield Finding("dead letters", Verdict.WARNING, found, advice)


def _about_database(settings: Settings) -> list[Finding]:
    timeout = settings.database_timeout_seconds
    try:
        facts = database_facts(
            settings.database_url, settings.database_name, timeout_seconds=timeout
        )
    except DatabaseUnreachable as exc:
        advice = "start MongoDB, or correct DATABASE_URL"
        return [Finding("database", Verdict.PROBLEM, str(exc), advice)]
    found = f"MongoDB {facts.version} answers, with {facts.pages} pages"
    keys = _about_keys(facts.api_keys, required=settings.api_auth == "required")
    retention = _about_retention(facts, settings.pages_retention_days)
    return [Finding("database", Verdict.OK, found), *_about_storage(facts), *retention, keys]


def _about_storage(facts: DatabaseFacts) -> Iterator[Finding]:
    if not facts.exists:
        yield Finding("pages", Verdict.PROBLEM, "the collection does not exist", START_THE_SERVICE)
        return
    if facts.indexes.get("url") and facts.indexes.keys() >= OTHER_INDEXES:
        yield Finding(
            "indexes",
            Verdict.OK,
            "url (unique), created_at and those of requests, events, deletions and lists",
        )
    else:
        found = f"only these indexes exist: {', '.join(facts.indexes)}"
        yield Finding("indexes", Verdict.PROBLEM, found, MAKE_INDEXES)
    if facts.compressor != "zstd":
        found = f"pages are compressed by {facts.compressor or 'the default'}, not zstd"
        advice = "this works but takes more disk; see `Capacity` in docs/operations.md"
        yield Finding("compression", Verdict.WARNING, found, advice)
    if facts.replica_set is None:
        found = "MongoDB is a single server, no replica set"
        advice = "run a replica set of three members in production"
        yield Finding("replication", Verdict.WARNING, found, advice)


def _about_retention(facts: DatabaseFacts, wanted_days: int) -> Iterator[Finding]:
    if facts.exists and facts.retention_days != wanted_days:
        yield Finding(
            "retention",
            Verdict.PROBLEM,
            f"the index that removes results is made for {facts.retention_days} days, and "
            f"PAGES_RETENTION_DAYS is {wanted_days}",
            "give the API and workers the same number, and restart one of them",
        )


def _about_keys(keys: int, *, required: bool) -> Finding:
    if not required:
        found = f"API_AUTH=off: whoever reaches the API may use it; {keys} keys are there"
        advice = "set API_AUTH=required where others can reach it"
        return Finding("keys", Verdict.WARNING, found, advice)
    if not keys:
        advice = "`pagemeta keys create NAME --scope read --scope write`"
        return Finding("keys", Verdict.PROBLEM, "API_AUTH=required, and there is no key", advice)
    return Finding("keys", Verdict.OK, f"API_AUTH=required, {keys} keys")


async def _about_api(api: str) -> Finding:
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.get(f"{api}/health/ready")
    except (httpx.TransportError, httpx.InvalidURL) as exc:
        found = f"{api} does not answer ({type(exc).__name__})"
        return Finding("api", Verdict.WARNING, found, "start it, or give its address with --api")
    if answer.is_success:
        return Finding("api", Verdict.OK, f"{api} is ready")
    return Finding("api", Verdict.PROBLEM, f"{api} is not ready: {answer.text}", "see its log")


def _print(findings: list[Finding]) -> None:
    table = Table("check", "", "found", "what to do", box=None)
    for finding in findings:
        # What was found may be an IPv6 address, or the answer of any server: it is no markup.
        cells = (finding.check, finding.verdict, finding.found, finding.advice)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console.print(table)
