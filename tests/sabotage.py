"""`just sabotage [word]`: breaks one guard after another, and wants the tests to go red.

A test of a guarantee is worth something only if it fails without the guard that gives the
guarantee. Each guard is broken in a copy of the code, where one test then runs. A row is red
if the test has failed by itself: an error in its set-up does not count. The exit status is 0 only
if all rows are red. Words choose the rows whose promise contains one of them.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.table import Table

from dev.servers import install_missing
from dev.stack import ROOT

COPIED = ("app", "dev", "tests", "pyproject.toml")
"""What the tests need of the repository."""


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A guard, the text that is its code, what replaces it, and the test that has to notice.

    The test is in one of the folders of tests.
    """

    promise: str
    file: str
    code: str
    broken: str
    test: str
    folder: str = "faults"


SABOTAGES = (
    Sabotage(
        "retries are dead-lettered at least once",
        "app/broker/topology.py",
        "ttl | _dead_letters_to(retries, kind)",
        "ttl | _dead_letters_to(retries, QueueType.CLASSIC)",
        "test_broker_faults.py::test_retries_are_not_lost_while_their_queue_is_missing",
    ),
    Sabotage(
        "a redelivery costs no attempt",
        "app/store/claims.py",
        '{"$max": ["$processing.attempts", request.attempt]}',
        '{"$add": ["$processing.attempts", _if(left_behind, 10, 0)]}',
        "test_worker_faults.py::test_a_worker_killed_again_and_again_loses_nothing",
    ),
    Sabotage(
        "rejected messages are dead-lettered at least once",
        "app/broker/topology.py",
        "return target | safely",
        "return target",
        "test_broker_faults.py::test_dead_letters_are_not_lost_while_their_queue_is_missing",
    ),
    Sabotage(
        "a page that may have killed its worker is fetched alone",
        "app/worker/handlers.py",
        "self._slots.all() if alone else self._slots.one()",
        "self._slots.one()",
        "test_poison.py",
    ),
    Sabotage(
        "a request during a fetch causes one more",
        "app/services.py",
        "return _deferred(delivery, reason, self._retries.delay_while_busy)\n"
        "            case Claim(",
        'return Coalesced("in_progress")\n            case Claim(',
        "test_worker_faults.py::test_requests_during_a_fetch_cause_one_more_fetch",
    ),
    Sabotage(
        "a late note does not undo what a worker has written",
        "app/store/pages.py",
        '{"$and": [{"$not": [handled]}, may_queue]}',
        "may_queue",
        "test_clocks.py",
    ),
    Sabotage(
        "a request is accepted once the broker has confirmed it",
        "app/broker/connection.py",
        "publisher_confirms=True, on_return_raises=True",
        "publisher_confirms=False",
        "test_messages.py::test_retries_mature_while_the_request_queue_is_full",
    ),
    Sabotage(
        "a message is acknowledged after its retry is confirmed",
        "app/worker/handlers.py",
        "            if await self._is_followed_up(outcome, queue):",
        "            await _acknowledge(message)\n"
        "            if await self._is_followed_up(outcome, queue):",
        "test_messages.py::test_a_worker_killed_while_its_retry_is_refused_loses_nothing",
    ),
    Sabotage(
        "a redelivered message takes over what its worker left behind",
        "app/store/claims.py",
        "takes_over = delivery.redelivered or delivery.deferrals > 0",
        "takes_over = False",
        "test_crashes.py",
    ),
    Sabotage(
        "a message that no queue takes is not accepted",
        "app/broker/operations.py",
        "mandatory=True",
        "mandatory=False",
        "test_messages.py::test_a_queue_that_is_deleted_is_declared_again",
    ),
    Sabotage(
        "the event of a worker that died is told by the redelivered message",
        "app/services.py",
        "if self._tells and isinstance(outcome, Coalesced):",
        "if False:",
        "test_crashes.py",
    ),
    Sabotage(
        "a message is acknowledged after its event is published",
        "app/worker/handlers.py",
        "not await self._announcer.announce(event)",
        "not asyncio.ensure_future(self._announcer.announce(event))",
        "test_crashes.py",
    ),
    Sabotage(
        "an event is published after its outcome is stored",
        "app/store/claims.py",
        "            status = await self._write(result)",
        "            import asyncio\n"
        "            loop = asyncio.get_running_loop()\n"
        "            loop.call_later(1, lambda: asyncio.ensure_future(self._write(result)))\n"
        "            status = result.status",
        "test_events.py::test_the_full_queue_of_a_listener_holds_up_no_page_and_no_other_listener",
    ),
    Sabotage(
        "an event that the broker does not take is put down",
        "app/events.py",
        "return await self._put_down(event)",
        "return True",
        "test_cluster.py::test_a_queue_of_a_listener_that_is_away_holds_up_no_page",
    ),
    Sabotage(
        "a message with properties that cannot be read stops no worker",
        "app/broker/private_api.py",
        "with suppress(Exception):",
        "with suppress():",
        "test_messages.py::test_a_message_with_odd_properties_stops_no_worker",
    ),
    Sabotage(
        "a process stops in time while its broker is frozen",
        "app/broker/pipelined.py",
        "self._socket.writer.transport.abort()",
        "pass",
        "test_broker_faults.py::test_a_connection_closes_in_time_while_the_broker_reads_nothing"
        "_and_the_socket_is_full",
    ),
    Sabotage(
        "a key opens what its scopes permit, and nothing else",
        "app/api/gate.py",
        "if needed not in key.scopes:",
        "if False:",
        "test_keys.py::test_a_key_opens_what_its_scopes_permit_and_no_more",
        folder="unit",
    ),
)


def is_noticed(sabotage: Sabotage, folder: Path) -> bool:
    """Break a guard in a copy of the code, and return whether its test fails."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    file = folder / sabotage.file
    file.write_text(file.read_text().replace(sabotage.code, sabotage.broken, 1))
    report = folder / "report.xml"
    options = ("--maxfail=1", "--tb=no", "-q", f"--junitxml={report}")
    test = f"tests/{sabotage.folder}/{sabotage.test}"
    command = [sys.executable, "-m", "pytest", *options, test]
    subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL)
    suite = ET.parse(report).getroot()[0]  # noqa: S314 (pytest has just written it)
    return int(suite.attrib["failures"]) > 0


def main(words: Sequence[str]) -> bool:
    """Print one row for each guard; return whether all were noticed."""
    install_missing()
    chosen = [each for each in SABOTAGES if not words or any(w in each.promise for w in words)]
    table, all_noticed = Table("promise whose guard was broken", "test", "result"), True
    for sabotage in chosen:
        with TemporaryDirectory() as name:
            noticed = is_noticed(sabotage, Path(name))
        all_noticed &= noticed
        table.add_row(sabotage.promise, sabotage.test, "red" if noticed else "NOT NOTICED")
    Console(width=160).print(table)
    return all_noticed


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
