"""Which URLs, addresses and ports may be fetched from.

The refused networks are all those of the IANA IPv4 and IPv6 Special-Purpose Address Registries
(https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry),
globally reachable or not: none of them is there to serve web pages. Of IPv6 only global unicast
(2000::/3, RFC 4291, section 2.4) is let through. That excludes IPv4-mapped and -compatible, NAT64,
unique local, link-local, site-local and multicast addresses.
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import httpx

from app.errors import FetchError
from app.models import ErrorKind
from app.urls import DEFAULT_PORTS

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_PORT = 65_535

GLOBAL_UNICAST = IPv6Network("2000::/3")

REFUSED_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private use
        "100.64.0.0/10",  # shared address space
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, in no registry
        "169.254.0.0/16",  # link-local, and the metadata services of most clouds
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private use
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and limited broadcast
        "2001::/23",  # IETF protocol assignments: Teredo, ORCHID, benchmarking and more
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


class Guard:
    """Decides which addresses may be reached, and on which ports.

    `allowed_networks` are exempt from the table above and from the rule about ports: they are for
    development and tests. `denied_networks` are refused in any case, exempt or not.
    """

    def __init__(
        self,
        allowed_ports: frozenset[int],
        allowed_networks: tuple[Network, ...] = (),
        denied_networks: tuple[Network, ...] = (),
    ) -> None:
        self._allowed_ports = allowed_ports
        self._allowed_networks = allowed_networks
        self._denied_networks = denied_networks

    def refused(self, addresses: Iterable[str]) -> list[str]:
        """Return those of `addresses` that may not be reached on any port."""
        return [address for address in addresses if self._is_refused(ip_address(address))]

    def check_port(self, addresses: Iterable[str], port: int) -> None:
        """Raise `FetchError` unless `port` may be used at each of `addresses`."""
        if port in self._allowed_ports:
            return
        if not all(_is_in(self._allowed_networks, ip_address(address)) for address in addresses):
            raise blocked(f"port {port} is not one that is fetched")

    def _is_refused(self, address: Address) -> bool:
        if _is_in(self._denied_networks, address):
            return True
        return not (_is_in(self._allowed_networks, address) or is_public(address))


def is_public(address: Address) -> bool:
    """Tell whether `address` is one that public web pages are served from."""
    # An IPv6 address with a scope (`fe80::1%eth0`) means something on this machine alone.
    if isinstance(address, IPv6Address) and (address.scope_id or address not in GLOBAL_UNICAST):
        return False
    return not _is_in(REFUSED_NETWORKS, address)


def _is_in(networks: tuple[Network, ...], address: Address) -> bool:
    return any(address in network for network in networks)


def check_url(url: httpx.URL) -> None:
    """Raise `FetchError` for a URL that is not fetched, whatever its host resolves to."""
    if url.scheme not in DEFAULT_PORTS:
        raise blocked("only http and https URLs are fetched")
    if url.userinfo:
        raise blocked("a URL with credentials is not fetched")
    if not _has_host(url):
        raise blocked("the URL names no host")
    if (url.port or 0) > MAX_PORT:
        raise blocked("the URL names a port that does not exist")


def _has_host(url: httpx.URL) -> bool:
    try:
        return bool(url.raw_host)
    except UnicodeEncodeError:  # an IPv6 address with a scope that is not ASCII
        return False


def literal_address(host: str) -> str | None:
    """Return the address that `host` spells, or None if it is a name.

    inet_aton() knows the spellings that getaddrinfo() and browsers know too: `127.1`,
    `2130706433`, `0x7f000001` and `0177.0.0.1` are all 127.0.0.1.
    """
    with suppress(ValueError):
        return str(ip_address(host))
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


def blocked(message: str) -> FetchError:
    """Return the error for what is not fetched on principle."""
    return FetchError(ErrorKind.BLOCKED_ADDRESS, message, retryable=False)
