"""Names to addresses, in threads of its own: getaddrinfo() can neither be awaited nor stopped."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Takes a host name, gives its addresses as text; raises `socket.gaierror`."""

_THREADS = 16


class ThreadedResolver:
    """The system's resolver.

    A lookup that hangs keeps one of the threads until the system gives it up. Those waiting for
    a thread leave the queue when their caller stops waiting.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="getaddrinfo")

    async def __call__(self, host: str) -> Sequence[str]:
        """Return the addresses of `host`, each once, the preferred one first (RFC 6724).

        A link-local IPv6 address comes with its scope, as in `fe80::1%eth0`.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host)
        return tuple(dict.fromkeys(found))

    def close(self) -> None:
        """Start no more lookups; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str) -> list[str]:
    # As bytes the name is passed on as it is; as text Python would IDNA-encode it once more,
    # and raise UnicodeError for a label that is too long.
    answers = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in answers]
