"""Names to addresses, by c-ares.

getaddrinfo() cannot be stopped: it holds a thread for as long as the system goes on asking, so a
few names that nobody answers for could hold every thread there is. c-ares asks for any number of
names at once in one thread of its own.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property

import aiodns
from aiodns.error import ARES_EBADNAME, ARES_ENODATA, ARES_ENOTFOUND, DNSError

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Takes a host name, gives its addresses as text; raises `socket.gaierror`."""

_NO_SUCH_NAME = {ARES_ENOTFOUND, ARES_ENODATA, ARES_EBADNAME}

# A question is asked up to 5 times, each wait twice the last. How long the first wait is, c-ares
# learns from how quickly the server answers: a quarter of a second or more.
_TRIES = 5
_FIRST_WAIT = 1 / 8  # of the caller's patience, as long as c-ares has learned nothing yet


class Resolver:
    """Asks the servers of /etc/resolv.conf, or `nameservers`; knows the names of /etc/hosts.

    Its caller waits for `patience_seconds` at most. The question itself may outlive the caller by
    some seconds, which holds up nobody. Answers are cached for as long as they are valid.
    """

    def __init__(self, patience_seconds: float, nameservers: Sequence[str] | None = None) -> None:
        self._first_wait_seconds = patience_seconds * _FIRST_WAIT
        self._nameservers = nameservers

    @cached_property
    def _channel(self) -> aiodns.DNSResolver:
        # Made when it is first needed, since it belongs to the event loop that runs then.
        return aiodns.DNSResolver(self._nameservers, timeout=self._first_wait_seconds, tries=_TRIES)

    async def __call__(self, host: str) -> Sequence[str]:
        """Return the addresses of `host`, each once, the preferred one first (RFC 6724)."""
        try:
            found = await self._channel.getaddrinfo(host, type=socket.SOCK_STREAM)
        except DNSError as exc:
            code, reason = exc.args
            lasting = code in _NO_SUCH_NAME
            raise socket.gaierror(
                socket.EAI_NONAME if lasting else socket.EAI_AGAIN, reason
            ) from exc
        return tuple(dict.fromkeys(node.addr[0].decode("ascii") for node in found.nodes))

    async def close(self) -> None:
        """Give up all questions; to be called when nobody waits for an answer any more."""
        if "_channel" in vars(self):
            await self._channel.close()
