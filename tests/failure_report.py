"""What a failed test prints besides its traceback: the logs of its processes, the servers' state.

A test of real processes seldom fails where the cause is: that is in the log of the API, of a worker
or of a server. pytest keeps these logs for some runs, in the folders that the titles name.
"""

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator

import pymongo
from pymongo.errors import PyMongoError

from dev.servers import Server, ServerFailed
from tests.service import Service

LONGEST_LINE = 300
RECORDS = 10
TIMEOUT_SECONDS = 10.0

Section = tuple[str, str]


def sections() -> Iterator[Section]:
    """Yield a title and a text for each process and each server of the open deployments."""
    for service in Service.all_open:
        for process in service.processes:
            yield _title(process), _end_of_log(process)
        yield _title(service.rabbitmq), _state_or_log(service.rabbitmq, _queues, service)
        yield _title(service.mongodb), _state_or_log(service.mongodb, _records, service)


def _title(server: Server) -> str:
    state = f"process {server.pid}" if server.running else "not running"
    return f"{server.name}: {state}, {server.log}"


def _end_of_log(server: Server) -> str:
    return "\n".join(line[:LONGEST_LINE] for line in server.end_of_log().splitlines())


def _state_or_log(server: Server, describe: Callable[[Service], str], service: Service) -> str:
    """Describe what a server holds. If it does not answer, its log may say why.

    That it does not may also be what the test wants: some kill or pause a server.
    """
    try:
        return describe(service)
    except (ServerFailed, subprocess.TimeoutExpired, PyMongoError) as exc:
        return f"{str(exc)[:LONGEST_LINE]}\n{_end_of_log(server)}"


def _queues(service: Service) -> str:
    columns = ("name", "messages_ready", "messages_unacknowledged", "consumers", "state")
    table = service.rabbitmq.ctl("list_queues", *columns, timeout=TIMEOUT_SECONDS)
    heading, *rows = table.splitlines() or ["no queues"]
    return "\n".join([heading, *(row for row in rows if row.startswith(f"{service.name}."))])


def _records(service: Service) -> str:
    with pymongo.timeout(TIMEOUT_SECONDS):
        records = list(service.pages.find({}, {"metadata": False, "_id": False}))
    counts = Counter(record["status"] for record in records)
    return "\n".join([str(dict(counts)), *(str(record) for record in records[:RECORDS])])
