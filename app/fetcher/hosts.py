"""How many connections one host gets at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import HostBusy


class HostTurns:
    """At most `limit` turns at once for each host; 0 is no limit.

    Nobody waits for a turn. Whoever did would keep a slot of the worker for it, and the pages of
    one slow host could hold every slot there is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many hosts have a turn at the moment."""
        return len(self._taken)

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Hold a turn of `host` until the block ends. Raises `HostBusy` if all are taken."""
        if self._limit and self._taken[host] >= self._limit:
            raise HostBusy(f"all {self._limit} connections to {host} are in use")
        self._taken[host] += 1
        try:
            yield
        finally:
            self._taken[host] -= 1
            if not self._taken[host]:
                del self._taken[host]
