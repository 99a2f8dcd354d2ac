import socket
import ssl
from unittest.mock import AsyncMock, MagicMock

import httpx
import pytest

from app.errors import FetchError, HostBusy, TooManyFetches
from app.fetcher.connection import Connector, alternating
from app.fetcher.faults import translated
from app.fetcher.guard import Guard
from app.models import ErrorKind
from tests.unit.recorded import Log


class Names:
    """A resolver that knows what it is told, and counts who asks."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        name = host.partition(".")[0]
        if name not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses[name]


async def connect(url: str, names: Names) -> None:
    tls = ssl.create_default_context()
    connector = Connector(Guard(frozenset({80, 443})), names, tls, timeout_seconds=1, per_host=0)
    async with connector.connection(httpx.URL(url)):
        pass


async def test_a_name_is_resolved_once_and_checked_before_anything_is_dialled(log: Log) -> None:
    names = Names(mixed=["93.184.215.14", "10.0.0.1"])
    with pytest.raises(socket.gaierror):
        await connect("https://mixed.test/", names)

    assert names.asked == ["mixed.test"]
    refused = log.one("fetch_address_refused")
    assert (refused["host"], refused["addresses"]) == ("mixed.test", ["10.0.0.1"])


async def test_a_page_that_gets_no_turn_at_the_address_uses_up_no_fetch_of_its_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(one=["93.184.215.14"], other=["93.184.215.14"])
    guard, tls = Guard(frozenset({80})), ssl.create_default_context()
    connector = Connector(guard, names, tls, timeout_seconds=1, per_host=1, per_minute=1)
    monkeypatch.setattr("asyncio.open_connection", AsyncMock(return_value=(None, MagicMock())))
    other = httpx.URL("http://other.test/")
    async with connector.connection(httpx.URL("http://one.test/")):
        with pytest.raises(HostBusy, match="connections"):
            async with connector.connection(other):
                pass
    async with connector.connection(other):
        pass
    with pytest.raises(TooManyFetches):
        async with connector.connection(other):
            pass


@pytest.mark.parametrize("port", [443, 22])
async def test_a_name_that_leads_inside_fails_like_one_that_does_not_exist(port: int) -> None:
    failures = []
    for host in ("inside.test", "loopback.test", "metadata.test", "mixed.test", "nowhere.test"):
        names = Names(
            inside=["10.1.2.3"],
            loopback=["127.0.0.1", "::1"],
            metadata=["169.254.169.254"],
            mixed=["10.1.2.3", "93.184.215.14"],
        )
        with pytest.raises(FetchError) as caught, translated():
            await connect(f"https://{host}:{port}/", names)
        error = caught.value
        failures.append((error.kind, error.message, error.retryable))
    assert set(failures) == {(ErrorKind.DNS, "the host name could not be resolved", False)}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "[::1]", "169.254.169.254", "[fe80::1]"]
)
async def test_an_address_is_checked_without_asking_a_resolver(host: str) -> None:
    names = Names()
    with pytest.raises(FetchError, match="public Internet") as caught:
        await connect(f"https://{host}/", names)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.BLOCKED_ADDRESS, False)
    assert names.asked == []


@pytest.mark.parametrize("port", [0, 22])
async def test_a_port_that_a_url_names_is_the_one_that_is_checked(port: int) -> None:
    with pytest.raises(FetchError, match=f"port {port} is not one") as caught:
        await connect(f"http://public.test:{port}/", Names(public=["93.184.215.14"]))
    assert caught.value.kind is ErrorKind.BLOCKED_ADDRESS


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
