"""In whatever order the nodes take their steps, and whichever of them fails, promises are kept.

Hypothesis has a deployment in memory (`simulation.py`) take steps of its choice. If a promise is
broken it looks for the shortest sequence that breaks it, and prints that.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from loguru import logger

from app import services
from app.errors import FetchError, HostBusy, PublishError, StoreUnavailable
from app.models import ErrorKind, PageRecord, PageStatus
from tests.fakes import a_timeout
from tests.unit.simulation import (
    LEASE_SECONDS,
    PATIENCE_SECONDS,
    POLICY,
    Call,
    ClockOfTheNode,
    Deployment,
    How,
    Message,
    Node,
    Plan,
    Step,
    Worker,
)

WORKERS = 2
APIS = 2
POISON = "https://poison.example/"
URL, OTHER_URL = "https://one.example/", "https://two.example/"

GONE = FetchError(ErrorKind.BLOCKED_ADDRESS, "not a public address", retryable=False)
BUSY = HostBusy("every place at the host is taken")
UNFORESEEN = ValueError("nobody has thought of this")

NOTICED, UNNOTICED = "a worker loses its connection", "it does, and does not notice"
WORKER_DIES, API_DIES, AWAY = "a worker dies", "an API node dies", "the database is away"
FAULTS = (WORKER_DIES, NOTICED, UNNOTICED, UNNOTICED, API_DIES, AWAY)


def plans(*names: str) -> list[Plan]:
    """Hold none of these steps, one, or all of them."""
    return [{}, {}, *({name: How.HELD} for name in names), dict.fromkeys(names, How.HELD)]


WORKER_PLANS = plans("claim", "outcome", "publish", "acknowledgement", "abandon")
Taking = tuple[int, Plan] | None
"""Which worker takes messages at once, if one does, and the plan of these calls."""


URLS = st.sampled_from([URL] * 5 + [OTHER_URL, POISON])
SKEWS = st.integers(-86_400_000, 86_400_000).map(lambda ms: timedelta(milliseconds=ms))
NODES = st.integers(0, 1)
INDEXES = st.integers(0, 11)
TAKINGS: st.SearchStrategy[Taking]
TAKINGS = st.sampled_from([*[None] * 6, *((n, plan) for plan in WORKER_PLANS for n in (0, 1))])
HOW = st.sampled_from((How.DONE, How.DONE, How.REFUSED, How.UNANSWERED))
FETCH_ENDS = st.sampled_from([None, None, a_timeout(), GONE, GONE, BUSY, UNFORESEEN])
NOTE_PLANS = st.sampled_from(plans("note_queued"))
READ_PLANS = st.sampled_from(plans("reserve", "take back"))
WAITS = st.sampled_from([0, 1, LEASE_SECONDS + 1, PATIENCE_SECONDS + 1])

Move = tuple[int, Exception | None, How, Plan]
MOVES = st.tuples(INDEXES, FETCH_ENDS, HOW, st.sampled_from(WORKER_PLANS))


@dataclass
class Ledger:
    """What callers were told about a page, and what has happened to it.

    The content of a site is a version, which grows with every fetch and every POST.
    """

    posted: int = 0
    """The version of the site at the last accepted POST."""
    gone: int = 0
    """The version at the last fetch that found the page gone for good."""
    shown: int = 0
    """The version that the record shows."""
    failed_attempts: int = 0
    is_unpublished: bool = False
    """Whether a GET has made the record QUEUED and then could not publish, nor put it right. The
    first GET after `PATIENCE_SECONDS` is to do that."""


class Interleavings(RuleBasedStateMachine):
    """Has the nodes take their steps in any order, with faults in between."""

    def __init__(self) -> None:
        super().__init__()
        self.deployment = Deployment(workers=WORKERS, apis=APIS)
        self.steps, self.broker = self.deployment.steps, self.deployment.broker
        self.ledgers = {url: Ledger() for url in (URL, OTHER_URL, POISON)}

    @initialize(skews=st.tuples(*[SKEWS] * (WORKERS + APIS)))
    def set_clocks(self, skews: tuple[timedelta, ...]) -> None:
        for node, skew in zip(self.deployment.nodes, skews, strict=True):
            node.skew = skew

    # --- Callers ---

    @rule(url=URLS, api=NODES, publish=HOW, plan=NOTE_PLANS, taking=TAKINGS)
    def post(self, url: str, api: int, publish: How, plan: Plan, taking: Taking) -> None:
        call = Call(self.deployment.apis[api], url, {"publish": publish, **plan})
        self.deployment.start(call, self._post(call))
        self.hand_out(taking)

    async def _post(self, call: Call) -> None:
        try:
            await self.deployment.inventory.request(call.url)
        except PublishError:
            return
        ledger = self.ledgers[call.url]
        ledger.posted = max(ledger.posted, call.version)

    @rule(url=URLS, api=NODES, publish=HOW, plan=READ_PLANS, wait=WAITS)
    def get(self, url: str, api: int, publish: How, plan: Plan, wait: float) -> None:
        """Wait, which the database uses to come back, and read a page."""
        if wait:
            self.deployment.database.is_away = False
            self.deployment.pass_time(wait)
        call = Call(self.deployment.apis[api], url, {"publish": publish, **plan})
        self.deployment.start(call, self._get(call))

    async def _get(self, call: Call) -> None:
        ledger = self.ledgers[call.url]
        newest = ledger.shown
        try:
            record = await self.deployment.inventory.read(call.url)
        except StoreUnavailable:
            ledger.is_unpublished |= call.is_unpublished
        except PublishError:
            ledger.is_unpublished |= call.is_unpublished and call.has_restored
        else:
            assert version_of(record) >= newest, "a GET has answered older content"

    # --- Work ---

    @rule(moves=st.lists(MOVES, min_size=1, max_size=5))
    def work(self, moves: list[Move]) -> None:
        for move in moves:
            self.move(*move)
            self.promises_are_kept()

    def move(self, index: int, end: Exception | None, how: How, plan: Plan) -> None:
        """Take one of the steps that can be taken. Each kind needs some of the arguments."""
        fetches, steps = self.steps.of_the_living("fetch"), self.steps.of_the_living()
        candidates = [*fetches, *steps, *self.broker.delayed, *self.broker.ready]
        candidate = chosen(candidates, index // WORKERS) if candidates else None
        if candidate in fetches:
            self.end_fetch(candidate, end)
        elif candidate in steps:
            self.deployment.go_on(candidate, how)
        elif candidate in self.broker.delayed:
            self.deployment.end_delay(candidate)
        elif candidate in self.broker.ready:
            self.take(candidate, index % WORKERS, plan)

    def take(self, message: Message, taker: int, plan: Plan) -> None:
        worker = self.deployment.workers[taker]
        if worker.has_room:
            self.deployment.take(worker, message, plan)

    def hand_out(self, taking: Taking) -> None:
        """Have a worker take every message that waits."""
        if taking is None:
            return
        for message in list(self.broker.ready):
            self.take(message, *taking)

    def end_fetch(self, step: Step, end: Exception | None = None) -> None:
        if step.call.url == POISON:
            self.deployment.kill(step.call.node)
            return
        ledger = self.ledgers[step.call.url]
        if end is GONE:
            ledger.gone = max(ledger.gone, step.version)
        may_end = end in (None, GONE, BUSY) or self.may_fail(step.call)
        self.deployment.go_on(step, end if may_end else None)

    # --- Faults ---

    @rule(index=INDEXES, fault=st.sampled_from(FAULTS), taking=TAKINGS)
    def fail(self, index: int, fault: str, taking: Taking) -> None:
        workers = [it for it in self.deployment.workers if it.handling]
        if fault == AWAY:
            self.deployment.database.is_away = True
        elif fault == API_DIES and self.deployment.calls:
            self.lose_api(chosen(self.deployment.calls, index).node)
        elif workers:
            self.lose_worker(chosen(workers, index), fault)
        self.hand_out(taking)

    def lose_api(self, node: Node) -> None:
        for call in self.deployment.calls:
            self.ledgers[call.url].is_unpublished |= call.node is node and call.is_unpublished
        self.deployment.kill(node)

    def lose_worker(self, worker: Worker, fault: str) -> None:
        if not all(self.may_fail(call) for call in worker.handling if call.is_alone):
            return
        if fault == WORKER_DIES:
            self.deployment.kill(worker)
        else:
            self.deployment.disconnect(worker, notices=fault == NOTICED)

    def may_fail(self, call: Call) -> bool:
        """Count a failed attempt, unless it would be the last one that the page has."""
        ledger = self.ledgers[call.url]
        if call.url != POISON and ledger.failed_attempts + 1 >= POLICY.max_attempts:
            return False
        ledger.failed_attempts += 1
        return True

    # --- Promises ---

    @invariant()
    def promises_are_kept(self) -> None:
        assert not self.broker.dead, "a request is dead-lettered"
        at_work = {message.request.url for message in self.broker.messages}
        at_work |= {call.url for call in self.deployment.calls}
        for url, ledger in self.ledgers.items():
            record = self.deployment.record(url)
            assert version_of(record) >= ledger.shown, "a record shows older content than before"
            ledger.shown = version_of(record)
            has_failed = record is not None and record.status is PageStatus.FAILED_PERMANENT
            assert not has_failed or ledger.gone or url == POISON, "a page has failed without cause"
            if url not in at_work:
                check_idle(record, ledger, may_fail=url == POISON)

    def teardown(self) -> None:
        with closing(self.deployment):
            self.drain()
            self.queue_again()
            assert not any(ledger.is_unpublished for ledger in self.ledgers.values())

    def drain(self) -> None:
        self.deployment.drain(self.end_fetch)
        self.promises_are_kept()

    def queue_again(self) -> None:
        """Have a GET take up what another GET has left behind."""
        self.deployment.pass_time(PATIENCE_SECONDS + 1)
        for url, ledger in self.ledgers.items():
            if ledger.is_unpublished:
                self.get(url=url, api=0, publish=How.DONE, plan={}, wait=0)
        self.drain()


def check_idle(record: PageRecord | None, ledger: Ledger, *, may_fail: bool) -> None:
    """Check a page that no message and no call of the API is about."""
    has_ended = record is None or record.has_ended
    ledger.is_unpublished &= not has_ended
    if ledger.is_unpublished:
        return
    assert has_ended, f"nobody is at work on {record}"
    assert record is not None or not ledger.posted, "an accepted request has no record"
    may_be_old = may_fail or ledger.gone >= ledger.posted
    assert may_be_old or version_of(record) >= ledger.posted, f"older than its POST: {record}"


def version_of(record: PageRecord | None) -> int:
    """Return the version of the content that a record shows, 0 for none."""
    if record is None or record.status is not PageStatus.COMPLETED or record.metadata is None:
        return 0
    return int(record.metadata.page_source or 0)


def chosen(items: Any, index: int) -> Any:
    return items[index % len(items)]


@pytest.fixture(autouse=True)
def a_clock_for_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "datetime", ClockOfTheNode)


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    """Thousands of requests are not logged."""
    logger.disable("app")
    yield
    logger.enable("app")


def test_promises_are_kept_in_whatever_order_the_nodes_take_their_steps() -> None:
    every_run_alike = settings(
        max_examples=150,
        stateful_step_count=20,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(Interleavings, settings=every_run_alike)


def test_twenty_posts_during_a_fetch_cause_one_more_fetch() -> None:
    with closing(Deployment(workers=WORKERS, apis=APIS)) as deployment:
        for taker in [0] + [1] * 20:
            call = Call(deployment.apis[0], URL, {})
            deployment.start(call, _post(deployment))
            deployment.take(deployment.workers[taker], deployment.broker.ready[0])
        assert deployment.sites.fetched == [URL]
        deployment.drain(lambda step: deployment.go_on(step, None))
        assert deployment.sites.fetched == [URL, URL]


async def _post(deployment: Deployment) -> None:
    await deployment.inventory.request(URL)
