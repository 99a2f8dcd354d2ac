import asyncio
import errno
import socket
import ssl

import httpx
import pytest

from app.errors import FetchError
from app.fetcher.faults import FAULTS, translated
from app.models import ErrorKind
from tests.unit.recorded import Log


def outcome(raised: BaseException) -> tuple[ErrorKind, bool]:
    with pytest.raises(FetchError) as caught, translated():
        raise raised
    assert caught.value.__cause__ is raised
    return caught.value.kind, caught.value.retryable


def refused() -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.1.2.3', 80)")


@pytest.mark.parametrize(
    ("raised", "kind", "retryable"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "again"), ErrorKind.DNS, True),
        (socket.gaierror(socket.EAI_SYSTEM, "system"), ErrorKind.DNS, True),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), ErrorKind.DNS, False),
        (socket.gaierror(socket.EAI_NODATA, "no address"), ErrorKind.DNS, False),
        (refused(), ErrorKind.CONNECT, True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), ErrorKind.CONNECT, True),
        (ConnectionResetError("cut"), ErrorKind.CONNECT, True),
        (BrokenPipeError(errno.EPIPE, "pipe"), ErrorKind.CONNECT, True),
        (OSError(errno.EHOSTUNREACH, "unreachable"), ErrorKind.CONNECT, True),
        (TimeoutError(), ErrorKind.TIMEOUT, True),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), ErrorKind.TIMEOUT, True),
        (ssl.SSLCertVerificationError(1, "verify failed"), ErrorKind.TLS, False),
        (ssl.SSLError(1, "wrong version number"), ErrorKind.TLS, False),
        (ssl.SSLEOFError(8, "EOF"), ErrorKind.CONNECT, True),
        (httpx.InvalidURL("bad"), ErrorKind.BLOCKED_ADDRESS, False),
    ],
)
def test_each_fault_has_its_kind_and_says_whether_it_may_pass(
    raised: Exception, kind: ErrorKind, *, retryable: bool
) -> None:
    assert outcome(raised) == (kind, retryable)


def test_an_unforeseen_exception_may_pass_and_is_logged_with_its_traceback(log: Log) -> None:
    assert outcome(ZeroDivisionError("nobody thought of this")) == (ErrorKind.INTERNAL, True)
    assert log.one("fetch_failed_unforeseen")["exception"].type is ZeroDivisionError


def test_no_row_of_the_table_hides_another() -> None:
    seen: list[type[Exception]] = []
    for fault in FAULTS:
        assert not issubclass(fault.raised, tuple(seen))
        seen.append(fault.raised)


def test_the_message_names_the_cause_and_no_address() -> None:
    with pytest.raises(FetchError) as caught, translated():
        raise refused()

    assert caught.value.message == "the connection failed: Connection refused"


def test_a_fetch_error_passes_through_as_it_is() -> None:
    original = FetchError(ErrorKind.ROBOTS, "no", retryable=False)
    with pytest.raises(FetchError) as caught, translated():
        raise original

    assert caught.value is original


def test_cancellation_is_no_fault() -> None:
    with pytest.raises(asyncio.CancelledError), translated():
        raise asyncio.CancelledError
