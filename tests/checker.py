"""Judges, after the load, whether the service has kept its promises.

`judge()` compares what was asked for (the history and the hits on the site) with what the service
has to show for it (`Evidence`: records, queues and logs of the workers). It is a pure function, so
that each kind of fault can be shown to it by hand; see `unit/test_checker.py`.
"""

import asyncio
import json
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import StringIO
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.assembly import topology_of
from app.broker.dead_letters import open_dead_letters
from dev.stack import Worker
from tests.history import NO_FAULT, Get, History, Hit, Post
from tests.listener import Heard
from tests.service import Service
from tests.site import Site

ENDED = ("COMPLETED", "FAILED_PERMANENT")

END_EVENTS = (b'"metadata_final_state"', b'"metadata_permanent_failure"', b'"request_coalesced"')
"""What a worker logs when it has done with a request."""

KINDS = ("lost", "stuck", "falsely failed", "stale", "untold", "mistold", "dead")
"""Ways to break a promise, in the order of the table's columns.

lost: an accepted request without a record. stuck: a record that has not ended, or whose refresh has
not, a request whose end no worker has logged, a message that is left over. falsely failed: a page
that failed although its site answers 200. stale: content from before the last accepted POST, or
older than what an earlier GET has answered. untold: an outcome whose event nobody has heard.
mistold: an event that came before its outcome was stored, or has none, or two copies of one event
that differ. dead: a dead letter that is no malformed message, or a malformed message that is no
dead letter.
"""


@dataclass(frozen=True, slots=True)
class Record:
    """What the database says about a page."""

    url: str
    status: str
    is_finished: bool = True
    waiting: int = 0
    """How many accepted requests no fetch has begun for."""
    error_kind: str | None = None
    hit: int | None = None
    """The number of the site hit that the kept content came from."""
    outcomes: int = 0
    """How many outcomes the page has had."""


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """What the database says about one outcome of a page."""

    url: str
    event_id: str | None
    """None if no event was stored with the outcome."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the service has to show after the load."""

    records: Sequence[Record]
    messages_left: Mapping[str, int] = field(default_factory=dict)
    """Messages in each queue but that of dead letters, unacknowledged ones included."""
    dead_letters: Sequence[bytes] = ()
    ended_requests: frozenset[str] = frozenset()
    """Requests whose end a worker has logged."""
    outcomes: Sequence[StoredOutcome] = ()
    """The outcomes of all pages, as their records keep them."""
    heard: Sequence[Heard] | None = None
    """Every event that a listener has heard, copies included. None if nobody has listened."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    kind: str
    about: str
    detail: str
    fault: str = NO_FAULT


@dataclass(frozen=True, slots=True)
class Report:
    """What the checker has to say."""

    accepted: Counter[str]
    """Accepted requests for each fault."""
    fetched_twice: Counter[str]
    """Answered fetches beyond one for each accepted request. They are allowed."""
    findings: Sequence[Finding]

    @property
    def is_clean(self) -> bool:
        return not self.findings

    def table(self) -> Table:
        """Return one row for each fault, and a sum."""
        found = Counter((finding.fault, finding.kind) for finding in self.findings)
        faults = sorted({*self.accepted, *self.fetched_twice, *(fault for fault, _ in found)})
        table = Table("fault", "accepted", *KINDS[:-1], "fetched twice", KINDS[-1], box=None)
        for fault in faults:
            kinds = [str(found[fault, kind]) for kind in KINDS]
            twice = str(self.fetched_twice[fault])
            table.add_row(fault, str(self.accepted[fault]), *kinds[:-1], twice, kinds[-1])
        totals = Counter(finding.kind for finding in self.findings)
        sums = [str(totals[kind]) for kind in KINDS]
        twice = str(self.fetched_twice.total())
        table.add_row("all", str(self.accepted.total()), *sums[:-1], twice, sums[-1])
        return table

    def __str__(self) -> str:
        text = StringIO()
        Console(file=text, width=200).print(self.table())
        lines = [f"{f.kind}: {f.about}: {f.detail}" for f in self.findings[:20]]
        return "\n".join([text.getvalue(), *lines])


# --- The judgement --------------------------------------------------------------------------------


def judge(
    history: History, hits: Sequence[Hit], failing: frozenset[str], evidence: Evidence
) -> Report:
    """Return what was accepted and every broken promise.

    `failing` has the URLs whose site does not answer 200: they may fail for good.
    """
    accepted = [post for post in history.posts if post.is_accepted]
    last = {post.url: post for post in sorted(accepted, key=lambda post: post.sent)}
    findings = [
        *_pages(history, last, failing, evidence),
        *_requests_without_end(accepted, evidence),
        *_leftovers(evidence),
        *_stale_content(last, hits, failing, evidence),
        *_reads_that_went_back(history.gets),
        *_events(evidence, {post.url: post.fault for post in last.values()}),
        *_dead_letters(history.malformed, evidence),
    ]
    twice = _fetched_twice(accepted, hits)
    return Report(Counter(post.fault for post in accepted), twice, findings)


def _pages(
    history: History, last: Mapping[str, Post], failing: frozenset[str], evidence: Evidence
) -> Iterator[Finding]:
    """Look at the record of each page that was accepted, or said to be queued by a GET."""
    records = {record.url: record for record in evidence.records}
    faults = {get.url: get.fault for get in history.gets if get.status == 202}
    faults |= {post.url: post.fault for post in last.values()}
    for url, fault in faults.items():
        record = records.get(url)
        if record is None:
            yield Finding("lost", url, "has no record", fault)
        elif record.status not in ENDED or not record.is_finished:
            detail = f"is {record.status}, finished: {record.is_finished}"
            yield Finding("stuck", url, detail, fault)
        elif record.waiting:
            yield Finding("stuck", url, f"{record.waiting} requests wait for a fetch", fault)
        elif url not in failing and (record.status != "COMPLETED" or record.error_kind):
            yield Finding("falsely failed", url, f"{record.status} {record.error_kind}", fault)
    copies = Counter(record.url for record in evidence.records)
    for url in (url for url, count in copies.items() if count > 1):
        yield Finding("stuck", url, f"has {copies[url]} records", faults.get(url, NO_FAULT))


def _requests_without_end(accepted: Iterable[Post], evidence: Evidence) -> Iterator[Finding]:
    for post in accepted:
        if post.request_id not in evidence.ended_requests:
            detail = f"no worker has logged the end of request {post.request_id}"
            yield Finding("stuck", post.url, detail, post.fault)


def _leftovers(evidence: Evidence) -> Iterator[Finding]:
    for name, count in evidence.messages_left.items():
        if count:
            yield Finding("stuck", f"queue {name}", f"{count} messages are left")


def _stale_content(
    last: Mapping[str, Post], hits: Sequence[Hit], failing: frozenset[str], evidence: Evidence
) -> Iterator[Finding]:
    began = {hit.number: hit.began for hit in hits}
    for record in evidence.records:
        post = last.get(record.url)
        if post is None or record.status != "COMPLETED" or record.url in failing:
            continue
        if record.hit is None or record.hit not in began:
            yield Finding("stale", record.url, "the content came from no known hit", post.fault)
        elif began[record.hit] < post.sent:
            age = post.sent - began[record.hit]
            detail = f"hit {record.hit} began {age:.3f} s before the last accepted POST"
            yield Finding("stale", record.url, detail, post.fault)


def _reads_that_went_back(gets: Sequence[Get]) -> Iterator[Finding]:
    """Find GETs that show less than a GET that had been answered before they were sent."""
    reads: defaultdict[str, list[Get]] = defaultdict(list)
    for get in sorted(gets, key=lambda get: get.answered):
        if get.hit is not None or get.status == 202:
            reads[get.url].append(get)
    for url, in_order in reads.items():
        newest = list(accumulate((get.hit or 0 for get in in_order), max))
        answered = [get.answered for get in in_order]
        for get in in_order:
            earlier = bisect_left(answered, get.sent)
            if earlier and (get.hit or 0) < newest[earlier - 1]:
                detail = f"a GET showed hit {get.hit} after hit {newest[earlier - 1]}"
                yield Finding("stale", url, detail, get.fault)


def _events(evidence: Evidence, faults: Mapping[str, str]) -> Iterator[Finding]:
    """Compare outcomes with events: each is told, after it was stored, always in the same words."""
    if evidence.heard is None:
        return
    bodies: defaultdict[str, set[bytes]] = defaultdict(set)
    told: defaultdict[str, set[str]] = defaultdict(set)
    for event in evidence.heard:
        bodies[event.event_id].add(event.body)
        told[event.url].add(event.event_id)
        if not event.is_stored:
            detail = f"event {event.event_id} came before its outcome was stored"
            yield Finding("mistold", event.url, detail, faults.get(event.url, NO_FAULT))
    for event_id, copies in bodies.items():
        if len(copies) > 1:
            yield Finding("mistold", f"event {event_id}", f"has {len(copies)} different copies")
    for record in evidence.records:
        # A record keeps the latest outcomes alone, but counts all.
        count, fault = len(told[record.url]), faults.get(record.url, NO_FAULT)
        if count != record.outcomes:
            kind = "untold" if count < record.outcomes else "mistold"
            yield Finding(kind, record.url, f"{count} events of {record.outcomes} outcomes", fault)
    for outcome in evidence.outcomes:
        if outcome.event_id not in bodies:
            detail = f"nobody has heard of its outcome, event {outcome.event_id}"
            yield Finding("untold", outcome.url, detail, faults.get(outcome.url, NO_FAULT))


def _dead_letters(malformed: Iterable[bytes], evidence: Evidence) -> Iterator[Finding]:
    """Compare without counting copies: dead letters are delivered at least once."""
    sent, found = set(malformed), set(evidence.dead_letters)
    for body in sent - found:
        yield Finding("dead", f"{body[:80]!r}", "was malformed and is no dead letter")
    for body in found - sent:
        yield Finding("dead", f"{body[:80]!r}", "is a dead letter")


def _fetched_twice(accepted: Iterable[Post], hits: Iterable[Hit]) -> Counter[str]:
    allowed = Counter(post.url for post in accepted)
    faults = {post.url: post.fault for post in accepted}
    fetched = Counter(hit.url for hit in hits if hit.status == 200)
    twice: Counter[str] = Counter()
    for url, fault in faults.items():
        twice[fault] += max(0, fetched[url] - allowed[url])
    return twice


# --- The evidence ---------------------------------------------------------------------------------


def judged(
    service: Service, site: Site, *, may_fail: Iterable[str] = (), within: float = 60
) -> Report:
    """Let the service come to rest, then judge it. Returns at the latest after `within` seconds.

    `may_fail` names pages that the site serves and that the service still cannot keep.
    """
    may_fail = frozenset(may_fail)
    give_up = time.monotonic() + within
    while not _is_at_rest(service) and time.monotonic() < give_up:
        time.sleep(0.2)
    while True:
        report = _judge_now(service, site, may_fail)
        if report.is_clean or time.monotonic() > give_up:
            return report
        time.sleep(0.5)


def _is_at_rest(service: Service) -> bool:
    """Say whether no page is under way. That is asked first because it costs little."""
    waits = {"processing.waiting.0": {"$exists": True}}
    under_way = {"$or": [{"status": {"$nin": ENDED}}, {"processing.finished": False}, waits]}
    return service.pages.find_one(under_way) is None and not any(_messages_left(service).values())


def _judge_now(service: Service, site: Site, may_fail: frozenset[str]) -> Report:
    documents = list(service.pages.find({}, _EVIDENT))
    evidence = Evidence(
        records=[_record(document) for document in documents],
        messages_left=_messages_left(service),
        dead_letters=asyncio.run(_dead_bodies(service)),
        ended_requests=frozenset(_ended_requests(service)),
        outcomes=[it for document in documents for it in _outcomes(document)],
        heard=list(service.listener.heard) if service.listener else None,
    )
    failing = site.failing_among(service.history) | may_fail
    return judge(service.history, list(site.seen), failing, evidence)


_EVIDENT = {
    "url": True,
    "status": True,
    "processing.finished": True,
    "processing.waiting": True,
    "processing.last_error": True,
    "processing.outcome": True,
    "processing.outcomes.event.event_id": True,
    "metadata.headers": True,
}


def _outcomes(document: Mapping[str, Any]) -> Iterator[StoredOutcome]:
    for outcome in document["processing"].get("outcomes", ()):
        event = outcome.get("event") or {}
        yield StoredOutcome(document["url"], str(event["event_id"]) if event else None)


def _record(document: Mapping[str, Any]) -> Record:
    error = document["processing"].get("last_error")
    headers = (document.get("metadata") or {}).get("headers", ())
    hits = [int(header["value"]) for header in headers if header["name"] == "x-hit"]
    return Record(
        url=document["url"],
        status=document["status"],
        is_finished=document["processing"].get("finished", False),
        waiting=len(document["processing"].get("waiting", ())),
        error_kind=error and error["kind"],
        hit=hits[0] if hits else None,
        outcomes=document["processing"].get("outcome", 0),
    )


def _messages_left(service: Service) -> dict[str, int]:
    columns = ("name", "messages")
    table = service.rabbitmq.ctl("--quiet", "list_queues", "--no-table-headers", *columns)
    rows = (line.split("\t") for line in table.splitlines())
    ours = {name: count for name, count in rows if name.startswith(f"{service.name}.")}
    dead = f"{service.name}.dead"
    return {name: int(count or 0) for name, count in ours.items() if name != dead}


async def _dead_bodies(service: Service) -> list[bytes]:
    url, topology = service.rabbitmq.url, topology_of(service.settings)
    async with open_dead_letters(url, topology, timeout_seconds=10) as queue:
        return [letter.body async for letter, _ in queue.letters()]


def _ended_requests(service: Service) -> Iterator[str]:
    for process in service.processes:
        if isinstance(process, Worker) and process.log.exists():
            yield from _ends_in(process.log)


def _ends_in(log: Path) -> Iterator[str]:
    with log.open("rb") as lines:
        for line in lines:
            if any(event in line for event in END_EVENTS):
                with suppress(ValueError, KeyError):  # the last line of a killed process
                    yield json.loads(line)["request_id"]
