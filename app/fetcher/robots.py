"""Fetches nothing that a host's robots.txt disallows (RFC 9309), where that is wanted."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

import httpx
from protego import Protego

from app.errors import FetchError
from app.fetcher.hosts import HostTurns
from app.models import ErrorKind

MAX_ROBOTS_BYTES = 512_000  # "at least 500 kibibytes": RFC 9309, section 2.5
CACHE_SECONDS = 3600  # "no more than 24 hours": section 2.4
CACHE_CHARACTERS = 2_000_000
FAILURE_SECONDS = 5  # so that the host's other pages fail at once, for the same reason

_ENTRY_CHARACTERS = 1000  # what the shortest file counts as: its entry takes memory too
_AGENT_LINE = re.compile(r"\s*user[-\s]*agent\s*:?\s*([^#]*)", re.IGNORECASE)

GetRobotsTxt = Callable[[str], Awaitable[tuple[int, str]]]
"""Takes the URL of a robots.txt and gives its status and text; raises `FetchError`, `HostBusy`."""

_Answer = Protego | FetchError


class Robots:
    """Asks each host's robots.txt before anything else is asked of the host.

    A file that is not there (4xx) or has too many redirects allows everything (RFC 9309, sections
    2.3.1.2 and 2.3.1.3). While the server fails (5xx), nothing is allowed (2.3.1.4); that may pass,
    so the page is tried again. Where the file cannot be fetched at all, the page fails for the
    same reason.
    """

    def __init__(self, user_agent: str, get_robots_txt: GetRobotsTxt) -> None:
        self._agent = user_agent.partition("/")[0].strip().lower()
        self._get_robots_txt = get_robots_txt
        self._answers = _Answers()
        self._turns = HostTurns(1)

    async def check(self, url: httpx.URL) -> None:
        """Raise `FetchError` unless `url` may be fetched.

        One page asks for a robots.txt, and the others wait for the answer for a moment. If it
        does not come they raise `HostBusy`.
        """
        origin = str(url.copy_with(raw_path=b"/", fragment=None))
        answer = self._answers.get(origin)
        if answer is None:
            async with self._turns.turn(f"{origin}robots.txt"):
                answer = self._answers.get(origin) or await self._ask(origin)
        if isinstance(answer, FetchError):
            raise _anew(answer)
        if not answer.can_fetch(str(url), self._agent):
            raise FetchError(
                ErrorKind.ROBOTS, "the host's robots.txt disallows this page", retryable=False
            )

    async def _ask(self, origin: str) -> _Answer:
        url, text = f"{origin}robots.txt", ""
        try:
            text = await self._rules_text(url)
            answer: _Answer = await asyncio.to_thread(parse_robots_txt, text, self._agent)
        except FetchError as exc:
            answer = _anew(exc)
        self._answers.keep(origin, answer, len(text))
        return answer

    async def _rules_text(self, url: str) -> str:
        try:
            status, text = await self._get_robots_txt(url)
        except FetchError as exc:
            if exc.kind is ErrorKind.TOO_MANY_REDIRECTS:
                return ""
            raise
        if httpx.codes.is_server_error(status):
            raise FetchError(
                ErrorKind.ROBOTS, f"the host's robots.txt answers {status}", retryable=True
            )
        return text if httpx.codes.is_success(status) else ""


def _anew(error: FetchError) -> FetchError:
    """Return the same error without its traceback, which would keep a whole fetch in memory."""
    return FetchError(error.kind, error.message, retryable=error.retryable)


def parse_robots_txt(text: str, agent: str) -> Protego:
    """Return the rules for `agent` (a product token in lower case) and for `*`.

    All other agents are renamed to one. Protego keeps a copy of each rule for each agent of its
    group, and would make gigabytes of a hostile file of 500 KiB.
    """
    return Protego.parse("\n".join(_with_known_agent(line, agent) for line in text.splitlines()))


def _with_known_agent(line: str, agent: str) -> str:
    found = _AGENT_LINE.match(line)
    if not found:
        return line
    named = found[1].strip().lower()
    return f"User-agent: {named if named in {'*', agent} else 'another'}"


class _Answers:
    """The answers of hosts. The oldest are forgotten when all together become too long."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[_Answer, int, float]] = {}
        self._cost = 0

    def get(self, origin: str) -> _Answer | None:
        answer, _, expires_at = self._entries.get(origin, (None, 0, 0.0))
        return answer if time.monotonic() < expires_at else None

    def keep(self, origin: str, answer: _Answer, characters: int) -> None:
        self._forget(origin)
        seconds = FAILURE_SECONDS if isinstance(answer, FetchError) else CACHE_SECONDS
        cost = characters + _ENTRY_CHARACTERS
        self._entries[origin] = (answer, cost, time.monotonic() + seconds)
        self._cost += cost
        while self._cost > CACHE_CHARACTERS:
            self._forget(next(iter(self._entries)))

    def _forget(self, origin: str) -> None:
        _, cost, _ = self._entries.pop(origin, (None, 0, 0.0))
        self._cost -= cost
