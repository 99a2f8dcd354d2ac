"""The servers that tests start end with the process that started them, on ports of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.servers import LOOPBACK, RABBITMQ_FROM, find_rabbitmq, free_port
from dev.stack import ROOT
from tests.service import eventually

START_A_DATABASE = """
import pathlib, sys
from dev.servers import MongoDB
with MongoDB(pathlib.Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""

CHOOSE_A_PORT = """
import itertools, sys
from unittest.mock import patch
from dev.servers import free_port
# As if chance chose the other process's port first, and then one port after another.
with patch("secrets.randbelow", side_effect=itertools.chain([int(sys.argv[1])], itertools.count())):
    print(free_port(), flush=True)
sys.stdin.read()
"""
FIRST_PORT = 10_000


@contextmanager
def a_program(source: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a program that prints a number and then waits; yields it with its number."""
    command = [sys.executable, "-c", source, *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        yield program, int(program.stdout.readline())
        program.kill()


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_the_process_that_started_it(
    tmp_path: Path, end: signal.Signals
) -> None:
    with a_program(START_A_DATABASE, str(tmp_path)) as (program, database_pid):
        assert exists(database_pid)
        os.kill(program.pid, end)
        program.wait()
        eventually(lambda: exists(database_pid), lambda exists: not exists)


def test_a_port_that_one_process_has_chosen_is_not_chosen_by_another() -> None:
    port = free_port()
    assert not is_in_use(port)
    with a_program(CHOOSE_A_PORT, str(port - FIRST_PORT)) as (_, other_port):
        assert other_port != port


def test_rabbitmq_is_run_from_the_system_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "usr" / "lib" / "rabbitmq" / "lib" / "rabbitmq_server-4.0.5" / "sbin"
    scripts.mkdir(parents=True)
    for name in ("rabbitmq-env", "rabbitmq-server"):
        (scripts / name).touch()
    monkeypatch.setenv(RABBITMQ_FROM, str(tmp_path))
    assert find_rabbitmq() == scripts


def is_in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
