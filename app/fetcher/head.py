"""The head of a response, read within bounds.

Servers are not tidy, and a page must not be lost over a sloppy header, so fields that a strict
parser would refuse are kept like any other. Names are put in lower case, and white space around
values and in folded lines is taken away. Lines without a colon are left out.
"""

import asyncio
import re
from dataclasses import dataclass

from app.errors import FetchError
from app.models import ErrorKind, Header

MAX_HEAD_BYTES = 98_304
MAX_HEADERS = 500
MAX_INTERIM_RESPONSES = 10

_READ_BYTES = 65_536
_BEGINNING = b"HTTP/1."
_STATUS_LINE = re.compile(rb"(HTTP/1\.[0-9]) +([0-9]{3})(?: .*)?", re.DOTALL)
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL_STATUS = 200
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LONGEST_PART_OF_END = 3  # of the four bytes "\r\n\r\n", how many the next read may complete
_LINE_END = re.compile(rb"\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")  # one line written as two: RFC 9112, section 5.2


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers, and the bytes of the body that were read along with them."""

    http_version: str
    status_code: int
    headers: tuple[Header, ...]
    rest: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of every header called `name` (in lower case), in order."""
        return [header.value for header in self.headers if header.name == name]


async def read_head(reader: asyncio.StreamReader) -> ResponseHead:
    """Read the head of the final response; interim responses (1xx) before it are skipped.

    Raises `FetchError` if the answer is not HTTP/1.x or exceeds a limit of this module, and
    `ConnectionResetError` if the connection ends first.
    """
    received = bytearray()
    for _ in range(MAX_INTERIM_RESPONSES + 1):
        status_line, *lines = await _take_lines(reader, received)
        version, status = _parse_status_line(status_line)
        if status >= _FIRST_FINAL_STATUS:
            return ResponseHead(version, status, _parse_headers(lines), bytes(received))
    raise invalid_response(f"the server sent more than {MAX_INTERIM_RESPONSES} interim responses")


async def _take_lines(reader: asyncio.StreamReader, received: bytearray) -> list[bytes]:
    """Read until `received` contains a whole head; remove it and return its lines."""
    searched = 0
    while not (end := _END_OF_HEAD.search(received, searched)):
        _refuse_hopeless(received)
        # Go on where the last search ended, so that a slow server does not cost a search of
        # everything for each of its bytes.
        searched = max(0, len(received) - _LONGEST_PART_OF_END)
        more = await reader.read(_READ_BYTES)
        if not more:
            raise ConnectionResetError("the connection ended within the head of the response")
        received += more
    head = bytes(received[: end.start()])
    _refuse_hopeless(head)
    del received[: end.end()]
    return _LINE_END.split(_FOLD.sub(b" ", head))


def _refuse_hopeless(received: bytes | bytearray) -> None:
    if not received.startswith(_BEGINNING[: len(received)]):
        raise invalid_response("the server's answer is not HTTP/1.x")
    if len(received) > MAX_HEAD_BYTES:
        raise invalid_response(f"the response has more than {MAX_HEAD_BYTES} bytes of headers")


def _parse_status_line(line: bytes) -> tuple[str, int]:
    found = _STATUS_LINE.fullmatch(line)
    if not found:
        raise invalid_response("the status line of the response is not valid")
    status = int(found[2])
    if status == _SWITCHING_PROTOCOLS:
        raise invalid_response(
            "the server switches to another protocol, which it was not asked to do"
        )
    return found[1].decode("ascii"), status


def _parse_headers(lines: list[bytes]) -> tuple[Header, ...]:
    """Return the fields as text; latin-1 keeps every byte (RFC 9110, section 5.5).

    Lines without a colon are left out: they are warnings that a script printed too early.
    """
    if len(lines) > MAX_HEADERS:
        raise invalid_response(f"the response has more than {MAX_HEADERS} headers")
    parts = (line.partition(b":") for line in lines)
    return tuple(
        Header(name.strip().lower().decode("latin-1"), value.strip().decode("latin-1"))
        for name, colon, value in parts
        if colon
    )


def invalid_response(message: str) -> FetchError:
    """Return the error for an answer that breaks the rules of HTTP or a limit."""
    return FetchError(ErrorKind.INVALID_RESPONSE, message, retryable=False)
