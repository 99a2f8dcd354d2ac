"""Publishing without waiting for the socket, and dropping it."""

import asyncio
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelInvalidStateError
from yarl import URL

from app.broker.pipelined import MAX_UNCONFIRMED, PipelinedConnection, PipelinedExchange


class RecordedChannel:
    """Stands in for a channel of aio-pika and for the aiormq channel below it."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.is_closed = is_closed
        self.confirmations: dict[int, Any] = {}
        self.published: list[dict[str, Any]] = []

    async def get_underlay_channel(self) -> "RecordedChannel":
        return self

    async def basic_publish(self, body: bytes, **options: Any) -> str:
        self.published.append({"body": body, **options})
        return "the broker's confirm"


def an_exchange(channel: RecordedChannel) -> PipelinedExchange:
    return PipelinedExchange(cast("AbstractChannel", channel), "metadata.events")


async def test_a_message_waits_for_its_confirm_and_not_for_the_socket() -> None:
    channel, message = RecordedChannel(), Message(b"{}", message_id="m")
    confirm = await an_exchange(channel).publish(message, "page.completed", mandatory=False)
    assert confirm == "the broker's confirm"
    assert channel.published == [
        {
            "body": b"{}",
            "exchange": "metadata.events",
            "routing_key": "page.completed",
            "properties": message.properties,
            "mandatory": False,
            "wait": False,
        }
    ]


async def test_nothing_is_published_on_a_closed_channel() -> None:
    channel = RecordedChannel(is_closed=True)
    with pytest.raises(ChannelInvalidStateError):
        await an_exchange(channel).publish(Message(b"{}"), "page.completed")
    assert channel.published == []


async def test_a_message_waits_for_the_socket_while_many_are_unconfirmed() -> None:
    channel = RecordedChannel()
    for unconfirmed in (MAX_UNCONFIRMED - 1, MAX_UNCONFIRMED):
        channel.confirmations = dict.fromkeys(range(unconfirmed))
        await an_exchange(channel).publish(Message(b"{}"), "page.completed")
    assert [it["wait"] for it in channel.published] == [False, True]


async def test_the_socket_of_the_latest_connection_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Mock(), Mock()
    opening = AsyncMock(side_effect=[(Mock(), first), (Mock(), second)])
    monkeypatch.setattr(asyncio, "open_connection", opening)
    connection = PipelinedConnection(URL("amqp://nowhere:1/"))
    connection.drop_socket()  # there is none yet
    for _ in range(2):
        await connection.kwargs["transport_factory"].create(connection.url)
    connection.drop_socket()
    assert [it.transport.abort.called for it in (first, second)] == [False, True]


@pytest.mark.parametrize(("scheme", "context"), [("amqp", None), ("amqps", "a context")])
async def test_a_socket_is_encrypted_if_the_url_says_so(
    monkeypatch: pytest.MonkeyPatch, scheme: str, context: str | None
) -> None:
    opening = AsyncMock(return_value=(Mock(), Mock()))
    monkeypatch.setattr(asyncio, "open_connection", opening)
    provider = Mock(get_context=AsyncMock(return_value="a context"))
    connection = PipelinedConnection(URL(f"{scheme}://nowhere:1/"))
    factory = connection.kwargs["transport_factory"]
    await factory.create(connection.url, ssl_context_provider=provider)
    assert opening.call_args.kwargs["ssl"] == context
