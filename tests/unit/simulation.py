"""A deployment in memory whose steps are taken by hand, in any order.

The nodes run the real use cases and the real `MessageHandler`. Around them are a database
(`FakePages`), a broker and web sites that a test controls. Each call of these is a step. A step
that is held waits in `Deployment.steps` until the test says how it goes: meanwhile other nodes may
work, or its own node may die. Nothing sleeps, since time passes by hand too.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import count
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from aio_pika.exceptions import ChannelInvalidStateError
from faststream.rabbit import RabbitMessage

from app.broker.messages import DEFERRALS_HEADER, MetadataRequested
from app.broker.publisher import Retry, RetryPublisher
from app.errors import PublishError, PublishFailed, PublishFault, StoreUnavailable
from app.events import Announcer
from app.models import PageMetadata, PageRecord, PageRequest, Validators
from app.retries import RetryPolicy
from app.services import Collector, Inventory, Pages
from app.worker.handlers import MessageHandler
from app.worker.held import ExtraConsumers, HeldMessages
from tests.fakes import NOW, FakeEventPublisher, FakeOutbox, FakePages, a_page

T = TypeVar("T")

LEASE_SECONDS = 120.0
PATIENCE_SECONDS = 600.0
POLICY = RetryPolicy(max_attempts=2, delays_seconds=(5, 30, 120))
SLOTS = 2
PREFETCH = 3
"""More than the slots, so that a message may wait for a slot too."""

DRAINING_ROUNDS = 100
PAGE = a_page()

STEP_NAMES = {
    **dict.fromkeys(("complete", "fail", "note_retry"), "outcome"),
    **dict.fromkeys(("reserve", "reserve_again"), "reserve"),
    **dict.fromkeys(("release", "restore"), "take back"),
}
"""What a test calls the methods of `Pages` that it does not tell apart."""


class How(StrEnum):
    """How a step goes."""

    DONE = "done"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    """It takes effect, but its caller hears of an error."""
    HELD = "held"
    """The test will say later."""


Plan = Mapping[str, How]
"""How the steps of a call go, by their names. Those that are not named are done at once."""


# --- Time -----------------------------------------------------------------------------------------


class _IdleSelector(selectors.BaseSelector):
    """Selects nothing. asyncio has it wait only when no task can go on; it says so instead."""

    on_idle: Callable[[], None]

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            self.on_idle()
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop that runs until no task can go on. Its time stands still until it is passed."""

    def __init__(self) -> None:
        self.seconds = 0.0
        selector = _IdleSelector()
        selector.on_idle = self.stop
        super().__init__(selector)

    def time(self) -> float:
        return self.seconds


# --- Nodes and what they do -----------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """A process. `skew`: by how much its clock is wrong."""

    loop: ManualLoop
    skew: timedelta = timedelta(0)
    is_dead: bool = False

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.loop.time()) + self.skew


@dataclass(eq=False)
class Call:
    """A call of the API, or a message that a worker handles."""

    node: Node
    url: str
    plan: Plan
    task: "asyncio.Task[None]" = field(init=False)
    version: int = 0
    """What the site had when the broker took the message of this call."""
    is_alone: bool = False
    """Whether the page was claimed to be fetched alone."""
    has_reserved: bool = False
    """Whether the record was made QUEUED for a message that is still to be published."""
    has_restored: bool = False
    """Whether the record was made what it was before."""

    @property
    def is_unpublished(self) -> bool:
        return self.has_reserved and not self.version

    def note(self, method: str, answer: Any) -> None:
        """Note what a method of `Pages` has done."""
        if method in ("reserve", "reserve_again"):
            self.has_reserved = answer
        elif method == "release":
            self.has_reserved = False
        elif method == "restore":
            self.has_restored = True


CALL: ContextVar[Call] = ContextVar("call")
"""The call that the running task belongs to."""


class ClockOfTheNode:
    """Stands in for the class `datetime` in the code that the nodes run."""

    @staticmethod
    def now(_zone: tzinfo) -> datetime:
        return CALL.get().node.now()


@dataclass(eq=False)
class Step:
    """A step that is held. `version`: what a fetch that began with it is answered with."""

    name: str
    call: Call
    version: int
    went: "asyncio.Future[Any]"


class Steps(list[Step]):
    """The steps that are held."""

    async def reach(self, name: str, how: How = How.DONE, version: int = 0) -> Any:
        """Return how a step goes. It is `how` unless the call has a plan for it."""
        call = CALL.get()
        how = call.plan.get(name, how)
        if how is not How.HELD and not call.node.is_dead:
            return how
        step = Step(name, call, version, asyncio.get_running_loop().create_future())
        self.append(step)
        try:
            return await step.went
        finally:
            self.remove(step)

    async def take(self, name: str, effect: Callable[[], Awaitable[T]], error: Exception) -> T:
        """Take a step: have its effect, raise its error, or both."""
        how = await self.reach(name)
        if how is How.REFUSED:
            raise error
        answer = await effect()
        if how is How.UNANSWERED:
            raise error
        return answer

    def of_the_living(self, *names: str) -> list[Step]:
        """Return those that can go on; all but fetches, or those with the names."""
        wanted = [step for step in self if not step.call.node.is_dead]
        return [it for it in wanted if (it.name in names if names else it.name != "fetch")]


class Database:
    """Stands in for the repository of page records; each call is a step."""

    def __init__(self, pages: FakePages, steps: Steps) -> None:
        self._pages = pages
        self._steps = steps
        self.is_away = False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def method(*arguments: Any, **options: Any) -> Any:
            CALL.get().is_alone |= options.get("alone", False)

            async def effect() -> Any:
                if self.is_away:
                    raise StoreUnavailable("the database is away")
                answer = await getattr(self._pages, name)(*arguments, **options)
                CALL.get().note(name, answer)
                return answer

            unavailable = StoreUnavailable("the database did not answer")
            return await self._steps.take(STEP_NAMES.get(name, name), effect, unavailable)

        return method


class Sites:
    """Web sites whose content is a version that grows with whatever happens."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._versions = count(1)
        self.fetched: list[str] = []

    def next_version(self) -> int:
        return next(self._versions)

    async def fetch(self, url: str, validators: Validators | None = None) -> PageMetadata:
        del validators  # these sites never answer 304
        self.fetched.append(url)
        version, began = self.next_version(), CALL.get().node.now()
        end = await self._steps.reach("fetch", How.HELD, version)
        if isinstance(end, Exception):
            raise end
        return replace(PAGE, page_source=str(version), fetched_at=began)


@dataclass(eq=False)
class Message:
    """A message in a queue."""

    request: PageRequest
    deferrals: int = 0
    redelivered: bool = False


@dataclass(eq=False)
class Broker:
    """Where messages are: `ready` in a queue, with a worker, or `delayed` until a retry is due."""

    ready: list[Message] = field(default_factory=list)
    with_workers: list[Message] = field(default_factory=list)
    delayed: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        return [*self.ready, *self.with_workers, *self.delayed]

    def deliver(self, message: Message) -> None:
        self.ready.remove(message)
        self.with_workers.append(message)

    def settle(self, message: Message, queue: list[Message] | None = None) -> None:
        """Move a message on, unless it has gone back to its queue already."""
        if message in self.with_workers:
            self.with_workers.remove(message)
            if queue is not None:
                queue.append(message)

    def requeue(self, message: Message) -> None:
        if message in self.with_workers:
            again = replace(message, redelivered=True)
            self.settle(message)
            self.ready.insert(0, again)


class RequestPublisher:
    """Stands in for the API's publisher."""

    def __init__(self, broker: Broker, steps: Steps, sites: Sites) -> None:
        self._broker = broker
        self._steps = steps
        self._sites = sites

    async def publish(self, request: PageRequest) -> None:
        async def effect() -> None:
            CALL.get().version = self._sites.next_version()
            self._broker.ready.append(Message(request))

        await self._steps.take("publish", effect, PublishFailed(PublishFault.CONNECTION_LOST))


class DelayingPublisher(RetryPublisher):
    """Stands in for the worker's publisher."""

    def __init__(self, broker: Broker, steps: Steps) -> None:
        self._broker = broker
        self._steps = steps

    async def publish(self, retry: Retry) -> bool:
        async def effect() -> None:
            self._broker.delayed.append(Message(retry.request, retry.deferrals))

        try:
            await self._steps.take("publish", effect, PublishFailed(PublishFault.CONNECTION_LOST))
        except PublishError:
            return False
        return True

    async def publish_in_turn(self, retry: Retry) -> None:
        while not await self.publish(retry):  # noqa: ASYNC110 (each try is a step of its own)
            await asyncio.sleep(1)


class NoExtraConsumers(ExtraConsumers):
    """Opens none: the test hands messages out itself."""

    def __init__(self) -> None:
        pass

    async def adjust(self, queue: str, *, held: int) -> None:
        pass


class Delivered:
    """A message as the handler sees it. Settling it is a step."""

    def __init__(self, message: Message, broker: Broker, steps: Steps) -> None:
        self._message = message
        self._broker = broker
        self._steps = steps
        self.headers = {DEFERRALS_HEADER: message.deferrals}
        self.raw_message = SimpleNamespace(
            routing_key="metadata.requests", redelivered=message.redelivered
        )

    async def ack(self) -> None:
        await self._settle(self._broker.settle)

    async def nack(self, requeue: bool) -> None:  # noqa: FBT001 (as in FastStream)
        assert requeue
        await self._settle(self._broker.requeue)

    async def _settle(self, move: Callable[[Message], None]) -> None:
        async def effect() -> None:
            move(self._message)

        lost = ChannelInvalidStateError("the connection is lost")
        try:
            await self._steps.take("acknowledgement", effect, lost)
        except ChannelInvalidStateError:
            self._broker.requeue(self._message)
            raise


@dataclass(eq=False)
class Worker(Node):
    """A worker process; `handling` has the messages that it has not finished with."""

    handler: MessageHandler = field(kw_only=True)
    handling: dict[Call, Message] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        return len(self.handling) < PREFETCH


class Deployment:
    """API nodes and workers around one database and one broker."""

    def __init__(self, *, workers: int, apis: int) -> None:
        self.loop = ManualLoop()
        self.steps = Steps()
        self.sites = Sites(self.steps)
        self.broker = Broker()
        self.pages = FakePages(
            patience=timedelta(seconds=PATIENCE_SECONDS), clock=Node(self.loop).now
        )
        self.database = Database(self.pages, self.steps)
        publisher = RequestPublisher(self.broker, self.steps, self.sites)
        self.inventory = Inventory(publisher=publisher, pages=cast("Pages", self.database))
        self.workers = [self._worker() for _ in range(workers)]
        self.apis = [Node(self.loop) for _ in range(apis)]
        self.calls: list[Call] = []
        """Calls of the API that have not ended."""

    def _worker(self, skew: timedelta = timedelta(0)) -> Worker:
        collector = Collector(
            fetcher=self.sites,
            pages=cast("Pages", self.database),
            retries=POLICY,
            lease_seconds=LEASE_SECONDS,
        )
        handler = MessageHandler(
            collector,
            DelayingPublisher(self.broker, self.steps),
            Announcer(FakeEventPublisher(), FakeOutbox()),
            HeldMessages(NoExtraConsumers()),
            concurrency=SLOTS,
        )
        return Worker(self.loop, skew, handler=handler)

    @property
    def nodes(self) -> list[Node]:
        return [*self.workers, *self.apis]

    def record(self, url: str) -> PageRecord | None:
        """Return the record of a page as it is now. This is no step."""
        try:
            self.pages.find(url).send(None)
        except StopIteration as end:
            return cast("PageRecord | None", end.value)
        raise AssertionError("FakePages.find() waits for something")

    def run(self) -> None:
        """Let every task go on until it waits. Raises what a call of the API has raised."""
        self.loop.run_forever()
        for call in [it for it in self.calls if it.task.done()]:
            self.calls.remove(call)
            call.task.result()
        for worker in self.workers:
            self._collect(worker)

    def _collect(self, worker: Worker) -> None:
        for call in [it for it in worker.handling if it.task.done()]:
            message = worker.handling.pop(call)
            # What `DeadLetterMiddleware` does.
            if not call.task.cancelled() and call.task.exception():
                self.broker.settle(message, self.broker.dead)

    def start(self, call: Call, coroutine: Coroutine[Any, Any, None]) -> None:
        """Begin a call of the API."""
        self.calls.append(call)
        self._start(call, coroutine)
        self.run()

    def _start(self, call: Call, coroutine: Coroutine[Any, Any, None]) -> None:
        context = copy_context()
        context.run(CALL.set, call)
        call.task = self.loop.create_task(coroutine, context=context)

    def take(self, worker: Worker, message: Message, plan: Plan | None = None) -> None:
        """Have a worker take a message from its queue."""
        self.broker.deliver(message)
        call = Call(worker, message.request.url, plan or {})
        worker.handling[call] = message
        body = MetadataRequested.from_request(message.request)
        delivered = Delivered(message, self.broker, self.steps)
        self._start(call, worker.handler.handle(body, cast("RabbitMessage", delivered)))
        self.run()

    def go_on(self, step: Step, how: Any) -> None:
        """Say how a held step goes; for a fetch, with which error, if any."""
        step.went.set_result(how)
        self.run()

    def end_delay(self, message: Message) -> None:
        self.broker.delayed.remove(message)
        self.broker.ready.append(message)

    def pass_time(self, seconds: float) -> None:
        self.loop.seconds += seconds
        self.run()

    @property
    def is_at_work(self) -> bool:
        handling = any(worker.handling for worker in self.workers)
        return bool(handling or self.calls or self.broker.messages)

    def drain(self, end_fetch: Callable[[Step], None]) -> None:
        """Let all work go on without a fault until nothing is left of it."""
        self.database.is_away = False
        for _ in range(DRAINING_ROUNDS):
            if not self.is_at_work:
                return
            self._take_all_steps(end_fetch)
            self.pass_time(LEASE_SECONDS / 4)
        raise AssertionError(f"there is still work to do: {self.broker.messages}")

    def _take_all_steps(self, end_fetch: Callable[[Step], None]) -> None:
        while steps := self.steps.of_the_living():
            self.go_on(steps[0], How.DONE)
        while fetches := self.steps.of_the_living("fetch"):
            end_fetch(fetches[0])
        for message in list(self.broker.delayed):
            self.end_delay(message)
        for worker in list(self.workers):
            while self.broker.ready and worker.has_room:
                self.take(worker, self.broker.ready[0])

    def disconnect(self, worker: Worker, *, notices: bool) -> None:
        """Lose the connection of a worker, which may not notice for a while."""
        for call, message in worker.handling.items():
            self.broker.requeue(message)
            if notices:
                call.task.cancel()
        self.run()

    def kill(self, node: Node) -> None:
        """End a process between two steps. A worker starts again at once."""
        node.is_dead = True
        self.calls = [call for call in self.calls if call.node is not node]
        if isinstance(node, Worker):
            for message in node.handling.values():
                self.broker.requeue(message)
            self.workers[self.workers.index(node)] = self._worker(node.skew)
        else:
            self.apis[self.apis.index(node)] = Node(self.loop, node.skew)

    def close(self) -> None:
        """End everything that still waits."""
        self.database.is_away = True
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_forever()
        self.loop.close()
