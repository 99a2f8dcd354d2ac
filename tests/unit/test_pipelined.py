"""Publishing without waiting for the socket."""

from typing import Any, cast

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelInvalidStateError

from app.broker.pipelined import PipelinedExchange


class RecordedChannel:
    """Stands in for a channel of aio-pika and for the aiormq channel below it."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.is_closed = is_closed
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
