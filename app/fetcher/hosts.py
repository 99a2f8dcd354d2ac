"""How many connections one host gets at once, and how many fetches begin there in a minute.

A turn is the right to have one connection.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import HostBusy, TooManyFetches
from app.rates import MinuteLimit, store_for

PATIENCE_SECONDS = 0.25
"""How long a page may wait for a turn. It holds a slot of the worker meanwhile, which pages of
other hosts could use."""


MAX_PACED_HOSTS = 20_000
"""Beyond so many in two minutes the ones asked the longest ago begin anew. They take 10 MB."""


class _Host:
    def __init__(self, limit: int) -> None:
        self.turns = asyncio.Semaphore(limit)
        self.users = 0
        self.is_slow = False


class HostTurns:
    """At most `limit` turns at once for each host, first come, first served; 0 is no limit.

    At a host that answers quickly a turn becomes free within milliseconds: who waits for it keeps
    the host's connections in use. At a slow host waiting would only hold a slot. So once somebody
    has waited in vain, nobody waits for that host until one of its turns has been given back.
    """

    def __init__(self, limit: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._limit = limit
        self._patience_seconds = patience_seconds
        self._hosts: dict[str, _Host] = {}

    def __len__(self) -> int:
        """Return how many hosts have a turn, or somebody waiting for one, at the moment."""
        return len(self._hosts)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Hold a turn of a host until the block ends. Raises `HostBusy` if none becomes free."""
        if not self._limit:
            yield
            return
        host = self._hosts.setdefault(name, _Host(self._limit))
        host.users += 1
        try:
            await self._take(host, name)
            try:
                yield
            finally:
                host.turns.release()
                host.is_slow = False
        finally:
            host.users -= 1
            if not host.users:
                del self._hosts[name]

    async def _take(self, host: _Host, name: str) -> None:
        if not host.turns.locked():
            await host.turns.acquire()
            return
        if not host.is_slow:
            try:
                async with asyncio.timeout(self._patience_seconds):
                    await host.turns.acquire()
            except TimeoutError:
                host.is_slow = True
            else:
                return
        raise HostBusy(f"all {self._limit} connections to {name} are in use")


class HostPace:
    """At most `per_minute` fetches begin at each host in a minute; 0 is any number."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._limit = MinuteLimit(per_minute, store_for(MAX_PACED_HOSTS)) if per_minute else None

    def begin(self, name: str) -> None:
        """Count a fetch that begins at a host. Raises `TooManyFetches` if none may begin now."""
        if self._limit is None:
            return
        if seconds := self._limit.use(name).retry_after_seconds:
            raise TooManyFetches(
                f"FETCH_PER_HOST_PER_MINUTE is {self._per_minute}, and so many fetches began at "
                f"{name} within a minute; the next one may begin in {seconds} s"
            )
