"""The answers on the way to a page, and the metadata that is made of them."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import httpx

from app.fetcher.body import Body, read_body
from app.fetcher.charset import decode_text, essence, is_text
from app.fetcher.cookies import cookies_in
from app.fetcher.head import ResponseHead
from app.fetcher.redirects import path_of, redirect_target, sent_host_of
from app.fetcher.transport import Response
from app.models import Cookie, PageMetadata, Redirect

MAX_COOKIES = 200
"""How many Set-Cookie headers are parsed into cookies. All of them are among the headers."""

_IN_THREAD_BYTES = 131_072
_NO_BODY = Body(b"", truncated=False, as_labelled=True)


@dataclass(frozen=True, slots=True)
class Hop:
    """One answer on the way to a page.

    `leads_to` is the target of a redirect. The last answer has none, and is the only one whose
    body is read.
    """

    url: httpx.URL
    head: ResponseHead
    remote_address: str
    leads_to: httpx.URL | None
    body: Body

    def header(self, name: str) -> str | None:
        """Return the last value sent for `name`, the one browsers go by, or None."""
        values = self.head.values(name)
        return values[-1] if values else None

    @property
    def cookies(self) -> Iterator[Cookie]:
        """The cookies that this answer set."""
        return cookies_in(self.head.headers, sent_host_of(self.url), path_of(self.url))


@dataclass(frozen=True, slots=True)
class Content:
    """What a body says: its text and encoding, if it is text, and its SHA-256 in hex."""

    text: str | None
    charset: str | None
    sha256: str


async def read_hop(url: httpx.URL, response: Response, max_body_bytes: int) -> Hop:
    """Find out where an answer leads, or read its body if it is not a redirect."""
    head = response.head
    body, leads_to = _NO_BODY, redirect_target(url, head)
    if not leads_to:
        codings = ",".join(head.values("content-encoding"))
        body = await read_body(response.body, codings, max_body_bytes)
    return Hop(url, head, response.remote_address, leads_to, body)


class ContentReader:
    """Turns bodies into text.

    This is done in a thread for large bodies, so that other pages need not wait, and for one of
    them at a time, because it takes several times the body's size in memory.
    """

    def __init__(self) -> None:
        self._reading_large = asyncio.Lock()

    async def read(self, hop: Hop) -> Content:
        """Return what the body of `hop` says."""
        content_type = hop.header("content-type")
        if len(hop.body.content) < _IN_THREAD_BYTES:
            return _content(hop.body, content_type)
        async with self._reading_large:
            return await asyncio.to_thread(_content, hop.body, content_type)


def _content(body: Body, content_type: str | None) -> Content:
    sha256 = hashlib.sha256(body.content).hexdigest()
    # A body that is not coded as its Content-Encoding says may not be what its Content-Type says
    # either: it may still be compressed.
    if not is_text(body.content, content_type if body.as_labelled else None):
        return Content(None, None, sha256)
    text, charset = decode_text(body.content, content_type, truncated=body.truncated)
    return Content(text, charset, sha256)


def page_from(
    hops: list[Hop], content: Content, *, elapsed_ms: float, fetched_at: datetime
) -> PageMetadata:
    """Return the record of the last of `hops`, with the others as its redirects."""
    *redirects, last = hops
    return PageMetadata(
        final_url=str(last.url),
        status_code=last.head.status_code,
        http_version=last.head.http_version,
        headers=last.head.headers,
        cookies=tuple(islice((cookie for hop in hops for cookie in hop.cookies), MAX_COOKIES)),
        page_source=content.text,
        page_source_truncated=last.body.truncated,
        content_type=essence(last.header("content-type")),
        charset=content.charset,
        body_bytes=len(last.body.content),
        body_sha256=content.sha256,
        redirects=tuple(
            Redirect(str(hop.url), hop.head.status_code, hop.header("location") or "")
            for hop in redirects
        ),
        remote_address=last.remote_address,
        elapsed_ms=round(elapsed_ms, 1),
        fetched_at=fetched_at,
    )
