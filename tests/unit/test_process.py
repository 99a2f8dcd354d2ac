"""How a process answers to SIGTERM, and what merely importing it does."""

import asyncio
import importlib
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from faststream.asgi import AsgiFastStream

from app.runtime.process import STOP_SIGNALS, end_process, stopping_at_once
from tests.unit.recorded import Log

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def under_uvicorn() -> Iterator[uvicorn.Server]:
    """Have signals go where uvicorn sends them; the test process gets none."""
    server = uvicorn.Server(uvicorn.Config("nothing:nothing", log_config=None))
    before = {number: signal.signal(number, server.handle_exit) for number in STOP_SIGNALS}
    its_logger = logging.getLogger("uvicorn.error")
    yield server
    its_logger.disabled = False
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def restored_mask() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


def blocked() -> set[object]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


async def stopped_while_starting(number: signal.Signals) -> None:
    """Start for ever, as one who catches whatever is raised on the way."""
    with stopping_at_once(), suppress(SystemExit):
        signal.raise_signal(number)
        await asyncio.Event().wait()


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_a_process_that_is_still_starting_stops_at_once_with_zero(
    under_uvicorn: uvicorn.Server, number: signal.Signals
) -> None:
    with pytest.raises(SystemExit) as end:
        asyncio.run(stopped_while_starting(number))
    assert end.value.code == 0
    assert not under_uvicorn.should_exit


@pytest.mark.usefixtures("under_uvicorn")
def test_a_start_that_is_cut_off_is_logged_as_that_and_not_as_a_failure(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        asyncio.run(stopped_while_starting(signal.SIGTERM))
    logging.getLogger("uvicorn.error").error("Application startup failed. Exiting.")
    assert log.one("stopped_while_starting")["signal"] == "SIGTERM"
    assert caplog.records == []


async def test_once_it_has_started_uvicorn_is_told_again(under_uvicorn: uvicorn.Server) -> None:
    before = handlers()
    with stopping_at_once():
        assert handlers() != before
    assert handlers() == before
    signal.raise_signal(signal.SIGTERM)
    assert under_uvicorn.should_exit


@pytest.mark.usefixtures("under_uvicorn")
async def test_a_start_that_fails_leaves_signals_as_they_were() -> None:
    before = handlers()
    with pytest.raises(ZeroDivisionError), stopping_at_once():
        raise ZeroDivisionError
    assert handlers() == before


@pytest.mark.usefixtures("restored_mask")
def test_elsewhere_signals_are_left_alone() -> None:
    before = handlers()
    with stopping_at_once():
        assert handlers() == before
    end_process()
    assert not blocked() & set(STOP_SIGNALS)


@pytest.mark.usefixtures("restored_mask")
def test_a_process_that_has_stopped_cleanly_takes_no_further_signals(
    under_uvicorn: uvicorn.Server,
) -> None:
    under_uvicorn.should_exit = True
    end_process()
    assert blocked() >= set(STOP_SIGNALS)


@pytest.mark.usefixtures("under_uvicorn", "restored_mask")
def test_a_process_that_ends_by_itself_says_so_and_fails(log: Log) -> None:
    async def end_by_itself() -> None:
        end_process()
        await asyncio.Event().wait()

    with pytest.raises(SystemExit) as ended:
        asyncio.run(end_by_itself())
    assert ended.value.code == 1
    assert log.events == ["ended_by_itself"]
    assert not blocked() & set(STOP_SIGNALS)


AS_UVICORN_ENDS = """
import signal, uvicorn
from app.runtime.process import end_process
server = uvicorn.Server(uvicorn.Config("nothing:nothing", log_config=None))
with server.capture_signals():
    signal.raise_signal(signal.SIGTERM)
    {call}
"""


@pytest.mark.parametrize(
    ("call", "code"), [("end_process()", 0), ("pass", -signal.SIGTERM)], ids=["with", "without"]
)
def test_the_signal_uvicorn_raises_again_does_not_become_the_exit_code(
    call: str, code: int
) -> None:
    script = AS_UVICORN_ENDS.format(call=call)
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=REPOSITORY, check=False)
    assert ended.returncode == code


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize(
    ("module", "kind"), [("app.api.main", FastAPI), ("app.worker.main", AsgiFastStream)]
)
def test_what_the_servers_name_is_built_without_connecting(
    bare_environment: pytest.MonkeyPatch, tmp_path: Path, module: str, kind: type
) -> None:
    bare_environment.chdir(tmp_path)
    bare_environment.setenv("BROKER_URL", "amqp://nowhere.invalid/")
    bare_environment.setenv("DATABASE_URL", "mongodb://nowhere.invalid")
    bare_environment.delitem(sys.modules, module, raising=False)
    assert isinstance(importlib.import_module(module).app, kind)
    bare_environment.delitem(sys.modules, module)
