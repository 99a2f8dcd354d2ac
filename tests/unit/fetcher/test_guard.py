from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FetchError
from app.fetcher.guard import Guard, check_url, is_public, literal_address
from app.models import ErrorKind

from .registries import REFUSED, REFUSED_IPV4, REFUSED_IPV6

WEB_PORTS = frozenset({80, 443})
PUBLIC = ["93.184.215.14", "8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"]

# Addresses that stand for a metadata service, a loopback or a private one in some disguise.
DISGUISED = [
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "2002:7f00:1::1",
    "2001:0:a9fe:a9fe::1",
    "fec0::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700:4700::1111%eth0",
    "100.100.100.200",
    "192.0.0.192",
]


def ends(network: str) -> list[str]:
    block = ip_network(network)
    return [str(block[0]), str(block[block.num_addresses // 2]), str(block[-1])]


@pytest.mark.parametrize("network", REFUSED)
def test_every_row_of_the_registries_is_refused_from_end_to_end(network: str) -> None:
    assert [is_public(ip_address(address)) for address in ends(network)] == [False] * 3


@pytest.mark.parametrize("address", DISGUISED)
def test_an_inside_address_is_refused_in_any_disguise(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_reached(address: str) -> None:
    assert is_public(ip_address(address))


# Half of the examples from the whole space, half around the borders of the refused networks,
# where mistakes are made.
def near(networks: list[int], bits: int) -> st.SearchStrategy[int]:
    borders = st.sampled_from(networks)
    return st.builds(lambda a, b: (a + b) % 2**bits, borders, st.integers(-2, 2))


BORDERS_4 = [int(end) for n in REFUSED_IPV4 for end in (n[0], n[-1])]
BORDERS_6 = [int(end) for n in REFUSED_IPV6 for end in (n[0], n[-1])]


@given(st.integers(0, 2**32 - 1) | near(BORDERS_4, 32))
def test_of_ipv4_exactly_what_is_in_no_registry_may_be_reached(number: int) -> None:
    refused = any(int(n[0]) <= number <= int(n[-1]) for n in REFUSED_IPV4)
    assert is_public(IPv4Address(number)) is not refused


@given(st.integers(0, 2**128 - 1) | st.integers(2 << 124, (4 << 124) - 1) | near(BORDERS_6, 128))
def test_of_ipv6_exactly_global_unicast_in_no_registry_may_be_reached(number: int) -> None:
    global_unicast = number >> 125 == 1
    refused = any(int(n[0]) <= number <= int(n[-1]) for n in REFUSED_IPV6)
    assert is_public(IPv6Address(number)) is (global_unicast and not refused)


@given(st.ip_addresses(v=4), st.sampled_from(["::{}", "::ffff:{}", "64:ff9b::{}"]))
def test_no_ipv4_address_can_be_reached_by_way_of_ipv6(inner: IPv4Address, wrapping: str) -> None:
    assert not is_public(ip_address(wrapping.format(inner)))


@given(st.ip_addresses(v=4))
def test_no_6to4_address_can_be_reached(inner: IPv4Address) -> None:
    assert not is_public(IPv6Address((0x2002 << 112) | (int(inner) << 80) | 1))


def test_the_bad_addresses_among_good_ones_are_named() -> None:
    guard = Guard(WEB_PORTS)
    assert guard.refused(PUBLIC) == []
    assert guard.refused([*PUBLIC, "10.0.0.1", "::1"]) == ["10.0.0.1", "::1"]


@pytest.mark.parametrize("port", [0, 21, 22, 25, 6379, 8080, 27017])
def test_a_port_that_is_not_allowed_is_refused(port: int) -> None:
    with pytest.raises(FetchError, match=f"port {port} ") as caught:
        Guard(WEB_PORTS).check_port(PUBLIC, port)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.BLOCKED_ADDRESS, False)


@pytest.mark.parametrize("port", [80, 443])
def test_a_port_that_is_allowed_may_be_used(port: int) -> None:
    Guard(WEB_PORTS).check_port(PUBLIC, port)


def test_allowed_networks_are_exempt_on_any_port_and_nothing_else_is() -> None:
    guard = Guard(WEB_PORTS, (ip_network("127.0.0.0/8"), ip_network("fd00::/8")))

    exempt = ["127.0.0.1", "127.255.0.1", "fd00::1"]
    assert guard.refused([*exempt, "10.0.0.1", "::1", "::ffff:127.0.0.1"]) == [
        "10.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
    ]
    guard.check_port(exempt, 27017)
    with pytest.raises(FetchError):
        guard.check_port([*exempt, PUBLIC[0]], 27017)


def test_denied_networks_are_refused_even_where_they_are_allowed() -> None:
    denied = (ip_network("93.184.0.0/16"), ip_network("2606:4700::/32"), ip_network("10.1.0.0/16"))
    guard = Guard(WEB_PORTS, (ip_network("10.0.0.0/8"), ip_network("93.184.215.14")), denied)

    addresses = ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "10.1.0.1", "10.2.0.1"]
    assert guard.refused(addresses) == ["93.184.215.14", "2606:4700:4700::1111", "10.1.0.1"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "http and https"),
        ("file:///etc/passwd", "http and https"),
        ("gopher://example.com/", "http and https"),
        ("javascript:alert(1)", "http and https"),
        ("data:text/html,hello", "http and https"),
        ("//example.com/", "http and https"),
        ("http://user@example.com/", "credentials"),
        ("http://user:secret@example.com/", "credentials"),
        ("http://:secret@example.com/", "credentials"),
        ("http:///path", "no host"),
        ("http://:80/", "no host"),
        ("http://[::1%é]/", "no host"),
        ("http://example.com:65536/", "port"),
    ],
)
def test_only_web_urls_without_credentials_are_fetched(url: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason) as caught:
        check_url(httpx.URL(url))

    assert caught.value.kind is ErrorKind.BLOCKED_ADDRESS


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7F.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("::1", "::1"),
        ("0:0:0:0:0:ffff:7f00:1", "::ffff:7f00:1"),
        ("fe80::1%lo", "fe80::1%lo"),
        ("a.test", None),
        ("127.0.0.1.", None),
        ("127.0.0.256", None),
        ("4294967296", None),
        ("localhost", None),
        ("0xg", None),
        ("", None),
    ],
)
def test_an_address_is_known_in_every_spelling(host: str, address: str | None) -> None:
    assert literal_address(host) == address
