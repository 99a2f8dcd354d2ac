import socket
import threading

import pytest

from app.fetcher.resolver import ThreadedResolver


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the system answers to any name."""
    found: list[str] = []

    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        assert threading.current_thread() is not threading.main_thread()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


async def test_each_address_is_given_once_in_the_order_of_the_system(answers: list[str]) -> None:
    answers += ["2606:4700::1", "1.1.1.1", "2606:4700::1"]
    resolve = ThreadedResolver()
    assert await resolve("a.test") == ("2606:4700::1", "1.1.1.1")
    resolve.close()


@pytest.mark.parametrize("name", ["a" * 64 + ".invalid", "a..invalid", "x" * 300])
async def test_a_name_that_cannot_be_is_one_that_does_not_exist(name: str) -> None:
    resolve = ThreadedResolver()
    with pytest.raises(socket.gaierror):
        await resolve(name)
    resolve.close()
