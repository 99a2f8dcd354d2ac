"""What httpx, ssl and the system raise, and which `FetchError` each becomes."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from loguru import logger

from app.errors import FetchError, HostBusy
from app.models import ErrorKind

_LASTING_DNS_FAILURES = {
    code
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY", "EAI_FAMILY", "EAI_FAIL")
    if (code := getattr(socket, name, None)) is not None
}


def _never(_: Exception) -> bool:
    return False


def _always(_: Exception) -> bool:
    return True


def _unless_lasting(failure: Exception) -> bool:
    return isinstance(failure, OSError) and failure.errno not in _LASTING_DNS_FAILURES


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table: what was raised, and what the page's record says about it."""

    raised: type[Exception]
    kind: ErrorKind
    is_retryable: Callable[[Exception], bool]
    message: str


FAULTS = (
    Fault(socket.gaierror, ErrorKind.DNS, _unless_lasting, "the host name could not be resolved"),
    Fault(TimeoutError, ErrorKind.TIMEOUT, _always, "the page did not arrive in time"),
    Fault(ssl.SSLEOFError, ErrorKind.CONNECT, _always, "the connection was cut"),
    Fault(ssl.SSLCertVerificationError, ErrorKind.TLS, _never, "the certificate does not verify"),
    Fault(ssl.SSLError, ErrorKind.TLS, _never, "TLS failed"),
    Fault(OSError, ErrorKind.CONNECT, _always, "the connection failed"),
    Fault(httpx.InvalidURL, ErrorKind.BLOCKED_ADDRESS, _never, "not a URL that can be fetched"),
)
"""The first row that fits counts, so subclasses come before their base."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise `FetchError` for every `Exception` but `HostBusy`. A cancellation passes."""
    try:
        yield
    except (FetchError, HostBusy):
        raise
    except Exception as exc:
        raise as_fetch_error(exc) from exc


def as_fetch_error(exc: Exception) -> FetchError:
    """Return what `exc` means for the page."""
    for fault in FAULTS:
        if isinstance(exc, fault.raised):
            message = f"{fault.message}{_reason(exc)}"
            return FetchError(fault.kind, message, retryable=fault.is_retryable(exc))
    # No row fits: this is a mistake in our code or in a library. The page still ends in a record,
    # and the log has the traceback.
    logger.opt(exception=exc).error("fetch_failed_unforeseen")
    message = f"something unforeseen happened in the fetcher: {type(exc).__name__}"
    return FetchError(ErrorKind.INTERNAL, message, retryable=True)


def _reason(exc: Exception) -> str:
    """Return the cause for the end of a message.

    It must not carry an address. So the text of an `OSError`, which may, is replaced by that of
    its number, and nothing is said about a name that was not resolved.
    """
    reason = ""
    if isinstance(exc, ssl.SSLError):
        reason = getattr(exc, "verify_message", "") or getattr(exc, "reason", "")
    elif isinstance(exc, OSError) and not isinstance(exc, socket.gaierror) and exc.errno:
        reason = os.strerror(exc.errno)
    return f": {reason}" if reason else ""
