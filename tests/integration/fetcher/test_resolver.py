import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator

import pytest

from app.fetcher.resolver import Resolver

from .name_server import NameServer, name_server


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with name_server() as server:
        yield server


@pytest.fixture
async def resolve(server: NameServer) -> AsyncIterator[Resolver]:
    resolver = Resolver(2, [server.address])
    yield resolver
    await resolver.close()


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("four.test", {"93.184.215.14"}),
        ("FOUR.test", {"93.184.215.14"}),
        ("four.test.", {"93.184.215.14"}),
        ("four", {"93.184.215.14"}),
        ("six.test", {"2606:4700::1111"}),
        ("both.test", {"93.184.215.14", "93.184.215.15", "2606:4700::1111"}),
        ("inside.test", {"10.0.0.1"}),
    ],
)
async def test_a_name_has_the_addresses_of_both_families_each_once(
    resolve: Resolver, name: str, addresses: set[str]
) -> None:
    found = await resolve(name)
    assert (set(found), len(found)) == (addresses, len(addresses))


async def test_the_names_of_this_machine_are_known_without_asking(
    resolve: Resolver, server: NameServer
) -> None:
    assert set(await resolve("localhost")) <= {"127.0.0.1", "::1"}
    assert not server.asked


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nowhere.test", socket.EAI_NONAME),
        ("no-address.test", socket.EAI_NONAME),
        ("a" * 64 + ".test", socket.EAI_NONAME),
        ("a..test", socket.EAI_NONAME),
        ("x" * 300, socket.EAI_NONAME),
        ("page.onion", socket.EAI_NONAME),
        ("fails.test", socket.EAI_AGAIN),
        ("refused.test", socket.EAI_AGAIN),
    ],
)
async def test_a_name_without_address_says_whether_that_may_pass(
    resolve: Resolver, name: str, code: int
) -> None:
    with pytest.raises(socket.gaierror) as caught:
        await resolve(name)
    assert caught.value.errno == code


async def test_a_server_that_is_not_there_may_be_back_later() -> None:
    resolver = Resolver(2, ["127.0.0.1:1"])
    with pytest.raises(socket.gaierror) as caught:
        await resolver("four.test")
    assert caught.value.errno == socket.EAI_AGAIN
    await resolver.close()


async def test_hundreds_of_names_that_nobody_answers_for_keep_no_other_name_waiting(
    resolve: Resolver, server: NameServer
) -> None:
    threads = threading.active_count()
    silent = [asyncio.ensure_future(resolve(f"silent{number}.test")) for number in range(200)]
    await server.is_asked_for(200)

    started = time.monotonic()
    assert await resolve("four.test") == ("93.184.215.14",)
    assert time.monotonic() - started < 1
    assert threading.active_count() <= threads + 1
    assert not any(question.done() for question in silent)

    for question in silent:
        question.cancel()
    assert await asyncio.gather(*silent, return_exceptions=True)
    assert await resolve("both.test")


async def test_a_resolver_that_was_never_asked_has_nothing_to_close() -> None:
    await Resolver(1).close()


async def test_closing_ends_the_questions_that_are_open(
    resolve: Resolver, server: NameServer
) -> None:
    question = asyncio.ensure_future(resolve("silent.test"))
    await server.is_asked_for(1)
    await resolve.close()
    with pytest.raises(socket.gaierror):
        await question
