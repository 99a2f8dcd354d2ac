import ssl

import httpx
import pytest

from app.errors import FetchError
from app.fetcher.connection import Connector, alternating
from app.fetcher.guard import Guard


class Names:
    """A resolver that knows what it is told, and counts who asks."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        return self.addresses[host.partition(".")[0]]


async def connect(url: str, names: Names) -> None:
    guard = Guard(frozenset({80, 443}), ())
    tls = ssl.create_default_context()
    connector = Connector(guard, names, tls, timeout_seconds=1, per_host=0)
    async with connector.connection(httpx.URL(url)):
        pass


async def test_a_name_is_resolved_once_and_checked_before_anything_is_dialled() -> None:
    names = Names(mixed=["93.184.215.14", "10.0.0.1"])
    with pytest.raises(FetchError, match="public Internet"):
        await connect("https://mixed.test/", names)
    assert names.asked == ["mixed.test"]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "[fe80::1]"])
async def test_an_address_is_checked_without_asking_a_resolver(host: str) -> None:
    names = Names()
    with pytest.raises(FetchError, match="public Internet"):
        await connect(f"https://{host}/", names)
    assert names.asked == []


@pytest.mark.parametrize(
    ("addresses", "dialled"),
    [
        (["::1", "::2", "::3", "1.0.0.1"], ["::1", "1.0.0.1", "::2", "::3"]),
        (["1.0.0.1", "1.0.0.2", "::1"], ["1.0.0.1", "::1", "1.0.0.2"]),
        (["1.0.0.1"], ["1.0.0.1"]),
        ([], []),
    ],
)
def test_the_families_take_turns_in_being_dialled(addresses: list[str], dialled: list[str]) -> None:
    assert alternating(addresses) == dialled
