"""What a process does with stop signals, and what importing its `main.py` does."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.runtime.process import (
    STOP_SIGNALS,
    called_on_stop,
    end_with_failure,
    stoppable_at_once,
)
from tests.unit.recorded import Log

REPOSITORY = Path(__file__).parents[2]
EITHER_SIGNAL = pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)


def run(script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


# --- While a process connects ---


@EITHER_SIGNAL
def test_a_process_that_connects_ends_at_once_with_zero(number: signal.Signals) -> None:
    script = f"""
import signal
from app.runtime.process import stoppable_at_once
with stoppable_at_once():
    try:
        signal.raise_signal(signal.{number.name})
    finally:
        print("code that was interrupted went on")
"""
    ended = run(script)
    assert ended.returncode == 0
    assert "stopped_while_starting" in ended.stderr  # where loguru writes by default
    assert "went on" not in ended.stdout


def test_handlers_are_put_back_after_connecting() -> None:
    before = handlers()
    with stoppable_at_once():
        assert handlers() != before
    assert handlers() == before


def test_handlers_are_put_back_after_connecting_has_failed() -> None:
    before = handlers()
    with pytest.raises(ZeroDivisionError), stoppable_at_once():
        raise ZeroDivisionError
    assert handlers() == before


# --- While uvicorn serves ---


@EITHER_SIGNAL
def test_whoever_is_to_know_of_a_stop_is_told_and_uvicorn_too(number: signal.Signals) -> None:
    script = f"""
import asyncio, signal, uvicorn
from app.runtime.process import called_on_stop

async def serve():
    server = uvicorn.Server(uvicorn.Config("nothing:nothing", log_config=None))
    with server.capture_signals():
        told = asyncio.Event()
        with called_on_stop(told.set):
            signal.raise_signal(signal.{number.name})
            await asyncio.wait_for(told.wait(), 5)
        print("told", server.should_exit, flush=True)
        server._captured_signals.clear()

asyncio.run(serve())
"""
    assert run(script).stdout == "told True\n"


async def test_handlers_are_put_back_after_serving() -> None:
    before = handlers()
    with called_on_stop(lambda: None):
        assert handlers() != before
    assert handlers() == before


async def test_handlers_are_put_back_after_serving_has_failed() -> None:
    before = handlers()
    with pytest.raises(ZeroDivisionError), called_on_stop(lambda: None):
        raise ZeroDivisionError
    assert handlers() == before


async def test_a_signal_that_would_end_the_process_still_does() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with called_on_stop(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


# --- When uvicorn has shut down ---

STOPPED_BY_UVICORN = """
import asyncio, signal, uvicorn
from app.runtime.process import exit_with_zero_when_stopped

async def serve():
    server = uvicorn.Server(uvicorn.Config("nothing:nothing", log_config=None))
    with server.capture_signals():
        {within}
        signal.raise_signal(signal.{name})
        print("shutting down", server.should_exit)

{before}
asyncio.run(serve())
"""


@EITHER_SIGNAL
def test_a_process_that_uvicorn_has_shut_down_exits_with_zero(number: signal.Signals) -> None:
    script = STOPPED_BY_UVICORN.format(
        before="exit_with_zero_when_stopped()", within="pass", name=number.name
    )
    ended = run(script)
    assert (ended.returncode, ended.stdout) == (0, "shutting down True\n")


@EITHER_SIGNAL
def test_the_handlers_of_a_uvicorn_that_runs_already_are_left_alone(number: signal.Signals) -> None:
    script = STOPPED_BY_UVICORN.format(
        before="pass", within="exit_with_zero_when_stopped()", name=number.name
    )
    assert run(script).stdout == "shutting down True\n"


# --- When the work ends without a signal ---


def test_a_process_whose_work_has_ended_says_so_and_exits_with_one(log: Log) -> None:
    async def fail() -> None:
        end_with_failure()
        await asyncio.Event().wait()

    with pytest.raises(SystemExit) as ended:
        asyncio.run(fail())
    assert ended.value.code == 1
    assert log.events == ["ended_by_itself"]


# --- What the servers import ---


@pytest.mark.parametrize("module", ["app.api.main", "app.worker.main"])
def test_importing_an_application_builds_it_without_connecting(module: str, tmp_path: Path) -> None:
    script = f"""
import gc, os
os.chdir({str(tmp_path)!r})
from {module} import app
print(type(app).__name__, gc.get_freeze_count() > 10_000)
"""
    ended = run(
        script,
        BROKER_URL="amqp://nowhere.invalid/",
        DATABASE_URL="mongodb://nowhere.invalid",
        PYTHONPATH=str(REPOSITORY),
    )
    built, is_spared = ended.stdout.split()
    assert built in ("Api", "AsgiFastStream"), ended.stderr
    assert is_spared == "True"
