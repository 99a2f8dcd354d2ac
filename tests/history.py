"""What a test did and saw: every POST, every GET and every hit on the site, by one clock.

The clock is `time.monotonic()` of the test's own process, in which the site runs too. So the times
of a POST and of the hit that answers it can be compared, whatever clocks the service has.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NO_ANSWER = 0
"""The status of a call whose connection failed. It may have been accepted or not."""

NO_FAULT = "none"


@dataclass(frozen=True, slots=True)
class Post:
    """One `POST /metadata`, or one request that a test published to a queue itself."""

    url: str
    sent: float
    answered: float
    status: int
    request_id: str | None = None
    fault: str = NO_FAULT
    """The fault that was at work when it was sent."""

    @property
    def is_accepted(self) -> bool:
        return self.status == 202


@dataclass(frozen=True, slots=True)
class Get:
    """One `GET /metadata`."""

    url: str
    sent: float
    answered: float
    status: int
    hit: int | None = None
    """The number of the site hit whose content was answered."""
    fault: str = NO_FAULT


@dataclass(frozen=True, slots=True)
class Hit:
    """One request that reached the site; its number is sent back in the header `X-Hit`."""

    number: int
    url: str
    began: float
    status: int
    """What the site answered, `NO_ANSWER` if it closed the connection."""
    if_none_match: str | None = None
    """The header of that name, as the site got it."""


class History:
    """Collects calls. Several threads may write at once: appending to a list is atomic."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.gets: list[Get] = []
        self.malformed: list[bytes] = []
        """Bodies that were published and are no requests."""
        self.fault = NO_FAULT

    @contextmanager
    def during(self, fault: str) -> Iterator[None]:
        """Note that whatever is sent meanwhile is sent during this fault."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = NO_FAULT

    def note_post(self, url: str, sent: float, status: int, request_id: str | None) -> None:
        post = Post(url, sent, time.monotonic(), status, request_id, self.fault)
        self.posts.append(post)

    def note_get(self, url: str, sent: float, status: int, hit: int | None) -> None:
        self.gets.append(Get(url, sent, time.monotonic(), status, hit, self.fault))
