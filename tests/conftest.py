"""What every test may ask for, in which order tests run, and what a failed one prints."""

import gc
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dev.servers import MongoDB, RabbitMQ
from dev.stack import running
from tests import failure_report
from tests.schedule import KeepingTogether
from tests.service import Service
from tests.site import Site, serving

# --- Order and marks ------------------------------------------------------------------------------

TESTS = Path(__file__).parent

FOLDERS = ("unit", "faults", "browser", "integration", "integration/fetcher", "contract")
"""In the order in which they run. What needs no server comes first, and then what takes longest.

Begun last, a long test would keep a single process busy at the end, while the other processes of
pytest-xdist have nothing left to do.
"""

UNIT_FOLDERS = ("unit", "contract")
"""Their tests are unit tests, but for those that need a server."""

WITHOUT_UNIT_TESTS = {TESTS / folder for folder in FOLDERS if folder not in UNIT_FOLDERS}

WITHOUT_SERVERS = TESTS / "unit"
"""No test there needs a server; `_mark` sees to that."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="run the tests in a random order, which the seed repeats",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folders in which no test is asked for.

    Each process of pytest-xdist would import them, and what they import: the driver of Chromium
    alone takes longer than most folders of tests, and four fifths of all tests are in `unit`.
    """
    asked_for = config.getoption("markexpr")
    if asked_for == "unit" and collection_path in WITHOUT_UNIT_TESTS:
        return True
    if f"{asked_for} ".startswith("not unit and ") and collection_path == WITHOUT_SERVERS:
        return True
    return None  # let pytest decide


@pytest.hookimpl(optionalhook=True)  # `-p no:xdist` leaves the hook out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> KeepingTogether | None:
    return KeepingTogether(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        _mark(item)
    items.sort(key=_place)
    seed = config.getoption("--shuffle")
    if seed is not None:
        random.Random(seed).shuffle(items)  # noqa: S311 (an order is no secret)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and the tests, which live until the end.

    Else it looks at all of them again and again, which takes a fourteenth of the unit tests' time.
    """
    gc.collect()
    gc.freeze()


def _mark(item: pytest.Item) -> None:
    """Give a test the marks that follow from its folder; pyproject.toml explains them."""
    folder = _folder(item)
    if folder in UNIT_FOLDERS and not _needs_servers(item):
        item.add_marker("unit")
    elif folder == WITHOUT_SERVERS.name:
        raise pytest.UsageError(f"{item.nodeid} needs a server, so it is no test for {folder}/")
    if folder == "faults":
        item.add_marker("fault")


def _needs_servers(item: pytest.Item) -> bool:
    asks_for_one = bool({"rabbitmq", "mongodb"} & _fixtures(item))
    return asks_for_one or item.get_closest_marker("servers") is not None


def _place(item: pytest.Item) -> tuple[int, bool]:
    """Sort by folder. Within one, the tests that start servers of their own come first.

    They are the longest.
    """
    return FOLDERS.index(_folder(item)), "fragile" not in _fixtures(item)


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def _folder(item: pytest.Item) -> str:
    """Return the innermost of `FOLDERS` that has the test."""
    inside = item.path.relative_to(TESTS).as_posix()
    return max((it for it in FOLDERS if inside.startswith(f"{it}/")), key=len)


# --- What a failed test prints --------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the state of the deployments that the test uses, while they are still open."""
    report = yield
    if report.failed:
        report.sections.extend(failure_report.sections())
    return report


# --- Fixtures -------------------------------------------------------------------------------------

# A quorum queue counts its messages every 5 s by default. Tests that wait until none is left
# unacknowledged would wait as long.
FRESH_COUNTS = "[{rabbit, [{quorum_tick_interval, 500}]}]."


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def rabbitmq(servers_folder: Path) -> Iterator[RabbitMQ]:
    """One broker for all tests of this process; each process of pytest-xdist has its own."""
    with RabbitMQ(servers_folder / "rabbitmq", name="shared", advanced=FRESH_COUNTS) as server:
        yield server


@pytest.fixture(scope="session")
def mongodb(servers_folder: Path) -> Iterator[MongoDB]:
    """One database server for all tests of this process."""
    with MongoDB(servers_folder / "mongodb", removes_every_seconds=1) as server:
        yield server


@pytest.fixture
def unique_name() -> str:
    """A name for queues and databases that no other test uses."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def service(
    tmp_path: Path, rabbitmq: RabbitMQ, mongodb: MongoDB, unique_name: str
) -> Iterator[Service]:
    """A deployment on the shared servers."""
    with _deployed(tmp_path, rabbitmq, mongodb, unique_name) as service:
        yield service


@contextmanager
def _deployed(folder: Path, rabbitmq: RabbitMQ, mongodb: MongoDB, name: str) -> Iterator[Service]:
    with closing(Service(folder, rabbitmq, mongodb, name)) as service:
        yield service
    service.delete_queues()


@pytest.fixture(scope="module")
def deploy(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ, mongodb: MongoDB
) -> Iterator[Callable[[], Service]]:
    """Make deployments for the tests of a module, which is named in `TOGETHER`."""
    with ExitStack() as stack:

        def make() -> Service:
            folder, name = tmp_path_factory.mktemp("shared"), f"t{uuid4().hex[:12]}"
            return stack.enter_context(_deployed(folder, rabbitmq, mongodb, name))

        yield make


@pytest.fixture(scope="module")
def shared_service(deploy: Callable[[], Service]) -> Service:
    """The deployment of a module whose tests need not have one each.

    Each test is to use pages of its own: a `site` has another port for each.
    """
    return deploy()


@pytest.fixture
def fragile(tmp_path: Path, unique_name: str) -> Iterator[Service]:
    """A deployment on servers of its own, which the test may stop, kill and pause."""
    rabbitmq = RabbitMQ(tmp_path / "rabbitmq", name=unique_name, advanced=FRESH_COUNTS)
    mongodb = MongoDB(tmp_path / "mongodb")
    with (
        running(rabbitmq, mongodb),
        closing(Service(tmp_path, rabbitmq, mongodb, unique_name)) as service,
    ):
        yield service
