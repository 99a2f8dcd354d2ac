"""The example of a listener with FastStream, without a broker."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import yaml
from faststream.rabbit import RabbitBroker, TestRabbitBroker

from app.broker.events import CONTENT_TYPE
from dev.specs import FOLDER
from examples.faststream_listener import listener
from examples.faststream_listener.listener import EXCHANGE, PageEvent, on_event

MESSAGES = yaml.safe_load((FOLDER / "worker.yaml").read_text())["components"]["messages"]
EVENTS = [name for name in MESSAGES if name.startswith("Page")]


def example(name: str, **others: Any) -> Any:
    """Return the event that the document shows, with a new id unless another is given."""
    return {**MESSAGES[name]["examples"][0]["payload"], "id": str(uuid4()), **others}


@pytest.fixture
async def broker() -> AsyncIterator[RabbitBroker]:
    async with TestRabbitBroker(listener.broker) as broker:
        yield broker


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[PageEvent]:
    """The events that the work was done for."""
    done: list[PageEvent] = []

    async def work(event: PageEvent) -> None:
        done.append(event)

    monkeypatch.setattr(listener, "work", work)
    return done


async def publish(broker: RabbitBroker, event: Any, kind: str = "completed") -> None:
    await broker.publish(
        json.dumps(event).encode(),
        exchange=EXCHANGE,
        routing_key=f"page.{kind}",
        content_type=CONTENT_TYPE,
    )


@pytest.mark.parametrize("name", EVENTS)
async def test_the_listener_takes_every_event_that_the_document_shows(
    broker: RabbitBroker, worked: list[PageEvent], name: str
) -> None:
    event = example(name)
    kind = name.removeprefix("Page").lower()
    await publish(broker, event, kind)
    (seen,) = worked
    assert (str(seen.id), seen.kind, seen.data.url) == (event["id"], kind, event["data"]["url"])
    assert seen.time.isoformat().replace("+00:00", "Z") == event["time"]


async def test_an_event_that_arrives_again_is_handled_once(
    broker: RabbitBroker, worked: list[PageEvent]
) -> None:
    event = example("PageCompleted")
    await publish(broker, event)
    await publish(broker, event)
    assert len(worked) == 1


async def test_fields_and_kinds_of_a_newer_version_do_no_harm(
    broker: RabbitBroker, worked: list[PageEvent]
) -> None:
    event = example("PageCompleted", type="page-metadata.page.moved.v1", traceid="1")
    event["data"] = {**event["data"], "new": {"field": 1}}
    await publish(broker, event, "moved")
    assert [seen.kind for seen in worked] == ["moved"]


async def test_an_event_whose_work_fails_is_handled_when_it_arrives_again(
    broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    event, work = example("PageFailed"), listener.work

    async def fails(_event: PageEvent) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(listener, "work", fails)
    with pytest.raises(OSError, match="the disk is full"):
        await publish(broker, event, "failed")
    monkeypatch.setattr(listener, "work", work)
    await publish(broker, event, "failed")
    assert capsys.readouterr().out.split()[1:] == ["failed", event["data"]["url"], "timeout"]


async def test_what_is_no_event_reaches_no_work(
    broker: RabbitBroker, worked: list[PageEvent]
) -> None:
    with pytest.raises(Exception, match="id"):
        await publish(broker, {"specversion": "1.0"})
    assert worked == []


async def test_old_ids_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "REMEMBERED", 2)
    listener._handled.clear()  # noqa: SLF001 (it is what grows)
    for _ in range(3):
        await on_event(PageEvent.model_validate(example("PageDeleted")))
    assert len(listener._handled) == 2  # noqa: SLF001 (as above)
