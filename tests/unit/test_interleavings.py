"""In whatever order nodes take their steps and fail, no request is lost and no content is stale."""

import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
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
    PREFETCH,
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

EX = 0
POISON = "https://poison.example/"
URLS = ("https://one.example/", "https://two.example/", POISON)
WORKERS, APIS = 2, 2
DRAINING_ROUNDS = 100

ENDED = (PageStatus.COMPLETED, PageStatus.FAILED_PERMANENT)
GONE = FetchError(ErrorKind.BLOCKED_ADDRESS, "not a public address", retryable=False)
BUSY = HostBusy("every place at the host is taken")
UNFORESEEN = ValueError("nobody has thought of this")

SKEWS = st.integers(-86_400_000, 86_400_000).map(lambda ms: timedelta(milliseconds=ms))
PAGES = st.sampled_from((URLS[0], URLS[0], *URLS))
FAULTS = (
    "a worker dies",
    "a worker loses its connection",
    "a worker does not notice that it has lost its connection",
    "an API node dies",
    "the database is away",
)
INDEXES = st.integers(0, 11)
TAKERS = st.sampled_from([None, *range(WORKERS)])
HOW = st.sampled_from((How.DONE, How.DONE, How.REFUSED, How.UNANSWERED))


def plans(*names: str) -> st.SearchStrategy[Plan]:
    """Hold one of these steps, all of them, or none."""
    held: list[Plan] = [{name: How.HELD} for name in names]
    return st.sampled_from([{}, {}, *held, dict.fromkeys(names, How.HELD)])


ENDS = st.sampled_from([None, None, a_timeout(), GONE, BUSY, UNFORESEEN])
PLANS = plans("claim", "outcome", "publish", "acknowledgement", "abandon")
Move = tuple[int, Exception | None, How, Plan]


@dataclass
class Ledger:
    """What callers were told about a page, and what has happened to it."""

    posted: int = 0
    """The version that the site had at the last accepted POST."""
    gone: int = 0
    """The version of the last fetch that found the page gone for good."""
    read: int = 0
    """The newest version that a GET has answered."""
    failed_attempts: int = 0
    is_unpublished: bool = False
    """Whether a GET has reserved the page without publishing a message for it."""


class Interleavings(RuleBasedStateMachine):
    """Takes the steps of API nodes and workers in any order, with faults in between."""

    @initialize(skews=st.tuples(*[SKEWS] * (WORKERS + APIS)))
    def deploy(self, skews: tuple[timedelta, ...]) -> None:
        self.deployment = Deployment(skews, WORKERS)
        self.steps, self.broker = self.deployment.steps, self.deployment.broker
        self.ledgers = {url: Ledger() for url in URLS}

    # --- Callers ---

    @rule(
        url=PAGES,
        api=st.integers(0, APIS - 1),
        publish=HOW,
        plan=st.sampled_from([{}, {"note_queued": How.HELD}]),
        taken_by=TAKERS,
    )
    def post(self, url: str, api: int, publish: How, plan: Plan, taken_by: int | None) -> None:
        call = Call(self.deployment.apis[api], url, {"publish": publish, **plan})
        self.deployment.start(call, self._post(call))
        self.hand_out(taken_by)

    async def _post(self, call: Call) -> None:
        try:
            await self.deployment.inventory.request(call.url)
        except PublishError:
            return
        ledger = self.ledgers[call.url]
        ledger.posted = max(ledger.posted, call.version)

    @rule(
        url=PAGES,
        api=st.integers(0, APIS - 1),
        publish=HOW,
        plan=plans("reserve", "take back"),
        after=st.sampled_from([0, 1, LEASE_SECONDS + 1, PATIENCE_SECONDS + 1]),
    )
    def get(self, url: str, api: int, publish: How, plan: Plan, after: float) -> None:
        if after:
            self.deployment.database.is_away = False
            self.deployment.pass_time(after)
        call = Call(self.deployment.apis[api], url, {"publish": publish, **plan})
        self.deployment.start(call, self._get(call))

    async def _get(self, call: Call) -> None:
        ledger = self.ledgers[call.url]
        newest = ledger.read
        try:
            record = await self.deployment.inventory.read(call.url)
        except StoreUnavailable:
            ledger.is_unpublished |= call.is_unpublished
            return
        except PublishError:
            ledger.is_unpublished |= call.is_unpublished and call.has_restored
            return
        assert version_of(record) >= newest, "a GET went back to older content"

    # --- Workers ---

    @rule(moves=st.lists(st.tuples(INDEXES, ENDS, HOW, PLANS), min_size=1, max_size=5))
    def work(self, moves: list[Move]) -> None:
        for move in moves:
            self.move(*move)
            self.promises_are_kept()

    def move(self, index: int, end: Exception | None, how: How, plan: Plan) -> None:
        """Take one of the steps that are to be taken. Each needs some of the arguments."""
        fetches, steps = self.steps.of_the_living("fetch"), self.steps.of_the_living()
        candidates = [*fetches, *steps, *self.broker.delayed, *self.broker.ready]
        if not candidates:
            return
        candidate = chosen(candidates, index // WORKERS)
        if candidate in fetches:
            self.end_fetch(candidate, end)
        elif candidate in steps:
            self.deployment.go_on(candidate, how)
        elif candidate in self.broker.delayed:
            self.deployment.end_delay(candidate)
        else:
            self.take(candidate, index % WORKERS, plan)

    def take(self, message: Message, worker: int, plan: Plan) -> None:
        taker = self.deployment.workers[worker]
        if len(taker.handling) < PREFETCH:
            self.deployment.take(taker, message, plan)

    def end_fetch(self, step: Step, end: Exception | None) -> None:
        if step.call.url == POISON:
            self.deployment.kill(step.call.node)
            return
        ledger = self.ledgers[step.call.url]
        if end is GONE:
            ledger.gone = max(ledger.gone, step.version)
        may_end = end in (None, GONE, BUSY) or self.may_fail(step.call)
        self.deployment.go_on(step, end if may_end else None)

    # --- Faults ---

    @rule(index=INDEXES, fault=st.sampled_from(FAULTS), taken_by=TAKERS)
    def fail(self, index: int, fault: str, taken_by: int | None) -> None:
        workers = [it for it in self.deployment.workers if it.handling]
        if fault == "the database is away":
            self.deployment.database.is_away = True
        elif fault == "an API node dies" and self.deployment.calls:
            self.lose_api(chosen(self.deployment.calls, index).node)
        elif workers:
            self.lose_worker(chosen(workers, index), fault)
        self.hand_out(taken_by)

    def hand_out(self, taken_by: int | None) -> None:
        """Have a worker take every message at once."""
        for message in list(self.broker.ready) if taken_by is not None else []:
            self.take(message, taken_by, {})

    def lose_api(self, node: Node) -> None:
        for call in self.deployment.calls:
            self.ledgers[call.url].is_unpublished |= call.node is node and call.is_unpublished
        self.deployment.kill(node)

    def lose_worker(self, worker: Worker, fault: str) -> None:
        if not all(self.may_fail(call) for call in worker.handling if call.is_alone):
            return
        if fault == "a worker dies":
            self.deployment.kill(worker)
        else:
            notices = fault == "a worker loses its connection"
            self.deployment.disconnect(worker, notices=notices)

    def may_fail(self, call: Call) -> bool:
        """Count a failed attempt. False if the page has only its last one left."""
        ledger = self.ledgers[call.url]
        if call.url != POISON and ledger.failed_attempts + 1 >= POLICY.max_attempts:
            return False
        ledger.failed_attempts += 1
        return True

    # --- Promises ---

    @invariant()
    def promises_are_kept(self) -> None:
        assert not self.broker.dead
        at_work = {message.request.url for message in self.broker.messages}
        at_work |= {call.url for call in self.deployment.calls}
        for url, ledger in self.ledgers.items():
            record = self.record(url)
            version = version_of(record)
            assert version >= ledger.read, "the record went back to older content"
            ledger.read = version
            if record is not None and record.status is PageStatus.FAILED_PERMANENT:
                assert url == POISON or ledger.gone, record
            if url not in at_work:
                self.check_idle(url, record, ledger)

    def check_idle(self, url: str, record: PageRecord | None, ledger: Ledger) -> None:
        """Check a page that no message and no call of the API is about."""
        has_ended = record is None or record.has_ended
        ledger.is_unpublished &= not has_ended
        if not ledger.is_unpublished:
            assert has_ended, record
            assert not ledger.posted or record is not None
            is_fresh = version_of(record) >= ledger.posted
            assert is_fresh or url == POISON or ledger.gone >= ledger.posted, record

    def record(self, url: str) -> PageRecord | None:
        return self.deployment.now(self.deployment.pages.find(url))

    def teardown(self) -> None:
        if not hasattr(self, "deployment"):
            return
        global EX; EX += 1; print(f"EXAMPLES={EX}")
        try:
            self.drain()
            self.queue_again()
            assert not any(ledger.is_unpublished for ledger in self.ledgers.values())
        finally:
            self.deployment.close()

    def queue_again(self) -> None:
        """Have a GET take up what a GET has left behind."""
        self.deployment.pass_time(PATIENCE_SECONDS + 1)
        for url, ledger in self.ledgers.items():
            if ledger.is_unpublished:
                self.get(url=url, api=0, publish=How.DONE, plan={}, after=0)
        self.drain()

    def drain(self) -> None:
        """Let all work go on without a fault until nothing is left of it."""
        self.deployment.database.is_away = False
        for _ in range(DRAINING_ROUNDS):
            if not self.is_at_work():
                self.promises_are_kept()
                return
            self.take_all_steps()
            self.deployment.pass_time(LEASE_SECONDS / 4)
        raise AssertionError("there is still work to do")

    def is_at_work(self) -> bool:
        handling = any(it.handling for it in self.deployment.workers)
        return bool(handling or self.deployment.calls or self.broker.messages)

    def take_all_steps(self) -> None:
        while steps := self.steps.of_the_living():
            self.deployment.go_on(steps[0], How.DONE)
        while fetches := self.steps.of_the_living("fetch"):
            self.end_fetch(fetches[0], None)
        for message in list(self.broker.delayed):
            self.deployment.end_delay(message)
        for worker in list(self.deployment.workers):
            while self.broker.ready and len(worker.handling) < PREFETCH:
                self.deployment.take(worker, self.broker.ready[0], {})


def version_of(record: PageRecord | None) -> int:
    """Return the version of the content that a record has, 0 for none."""
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
    """Thousands of examples are not logged."""
    logger.disable("app")
    yield
    logger.enable("app")


def test_every_request_is_answered_with_fresh_content_whatever_the_order_of_steps() -> None:
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=int(os.environ.get('N', 200)), stateful_step_count=int(os.environ.get('STEPS', 20)), deadline=None, database=None,
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
            phases=[Phase.generate] + ([Phase.shrink] if os.environ.get("SHRINK") else []),
        ),
    )
