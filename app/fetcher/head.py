"""The head of a response: bounded, recorded as sent, and tidied up for the parser.

h11 takes nothing but well-formed fields, changes some on the way (`Content-Length: 5, 5`
becomes `5`) and keeps no count of interim responses. Servers are not that tidy and pages must
not be lost over it, so the head is read here first: what it said is kept for the record, and
the parser is given what it will take.
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
_STATUS_LINE_START = b"HTTP/1."
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_BEGUN_END_BYTES = 3
_LINE_END = re.compile(rb"\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")  # one line in two: RFC 9112, section 5.2
_FIELD_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # `token`, RFC 9110, section 5.6.2
_NO_FIELD_CONTENT = re.compile(rb"[\x00\r\v\f]+")  # RFC 9110, section 5.5


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and fields as sent, and the bytes of the body that came along."""

    status_line: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    rest: bytes

    @property
    def headers(self) -> tuple[Header, ...]:
        """The fields as text; latin-1 keeps every byte (RFC 9110, section 5.5)."""
        return tuple(
            Header(name.lower().decode("latin-1"), value.decode("latin-1"))
            for name, value in self.fields
        )

    def for_parser(self) -> bytes:
        """Return the response so far, less the fields that a strict parser would stumble over."""
        lines = [self.status_line]
        for name, value in self.fields:
            if _FIELD_NAME.fullmatch(name):
                lines.append(name + b": " + _NO_FIELD_CONTENT.sub(b" ", value).strip())
        return b"\r\n".join([*lines, b"", self.rest])


async def read_head(reader: asyncio.StreamReader) -> ResponseHead:
    """Read up to the end of the final response's head; interim ones (1xx) are passed over.

    Raises `FetchError` for what is no HTTP/1.x response or goes past a limit of this module,
    and `ConnectionResetError` if the connection ends first.
    """
    received = bytearray()
    for _ in range(MAX_INTERIM_RESPONSES + 1):
        head = await _take_block(reader, received)
        if not _is_interim(head):
            return _parse(head, bytes(received))
    raise _invalid("the server sent one interim response after the other")


async def _take_block(reader: asyncio.StreamReader, received: bytearray) -> bytes:
    """Read until `received` has a head, and take that out of it, less its empty line."""
    searched = 0
    while not (end := _END_OF_HEAD.search(received, searched)):
        _refuse_hopeless(received)
        searched = max(0, len(received) - _BEGUN_END_BYTES)
        more = await reader.read(_READ_BYTES)
        if not more:
            raise ConnectionResetError("the connection ended within the head of the response")
        received += more
    head = bytes(received[: end.start()])
    _refuse_hopeless(head)
    del received[: end.end()]
    return head


def _refuse_hopeless(received: bytes | bytearray) -> None:
    if not received.startswith(_STATUS_LINE_START[: len(received)]):
        raise _invalid("the server's answer is not HTTP/1.x")
    if len(received) > MAX_HEAD_BYTES:
        raise _invalid(f"the response has more than {MAX_HEAD_BYTES} bytes of headers")


def _is_interim(head: bytes) -> bool:
    return head[9:10] == b"1" and head[9:12] != b"101"


def _parse(head: bytes, rest: bytes) -> ResponseHead:
    status_line, *lines = _LINE_END.split(_FOLD.sub(b" ", head))
    if len(lines) > MAX_HEADERS:
        raise _invalid(f"the response has more than {MAX_HEADERS} headers")
    parted = (line.partition(b":") for line in lines)
    fields = tuple((name.strip(), value.strip()) for name, colon, value in parted if colon)
    return ResponseHead(status_line, fields, rest)


def _invalid(message: str) -> FetchError:
    return FetchError(ErrorKind.INVALID_RESPONSE, message, retryable=False)
