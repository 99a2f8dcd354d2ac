"""What `pagemeta events` and `pagemeta republish` do with events, without servers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from app.broker.events import PageEventMessage
from app.cli import event_commands
from app.cli.event_commands import in_words
from app.cli.main import app
from app.models import EventKind, PageError, PageEvent, PageStatus
from app.store import outbox
from app.store.outbox import event_as_bson, events_since

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def an_event(kind: EventKind = EventKind.COMPLETED, **fields: Any) -> PageEvent:
    known = {"event_id": uuid4(), "time": NOON, "request_id": uuid4(), "attempts": 1}
    url, status = "https://example.com/", PageStatus.COMPLETED
    return PageEvent(**{**known, "kind": kind, "url": url, "status": status, **fields})


def shown(event: PageEvent) -> str:
    return in_words(PageEventMessage.of(event).model_dump(mode="json"))


def test_a_line_has_time_kind_page_and_title() -> None:
    event = an_event(title="Example Domain")
    assert shown(event) == "2026-01-01T12:00:00Z completed https://example.com/ Example Domain"


def test_a_line_of_a_page_that_failed_has_the_reason() -> None:
    event = an_event(EventKind.FAILED, title="Busy", error=PageError("timeout", "no answer"))
    assert shown(event) == "2026-01-01T12:00:00Z failed    https://example.com/ no answer"


def test_a_title_cannot_write_to_the_terminal() -> None:
    assert "\x1b" not in shown(an_event(title="a\x1b[2Jb\nc"))
    assert shown(an_event(EventKind.DELETED)).endswith("https://example.com/")


@pytest.mark.parametrize(
    ("given", "since"),
    [
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T12:00:00Z", NOON),
        # `pagemeta events` shows times like this one.
        ("2026-01-01T12:00:00.250000Z", NOON + timedelta(seconds=0.25)),
    ],
)
def test_events_are_published_again_from_a_time_on(
    monkeypatch: pytest.MonkeyPatch, given: str, since: datetime
) -> None:
    asked: list[tuple[datetime, bool]] = []

    async def republish(since: datetime, *, dry_run: bool) -> tuple[int, int]:
        asked.append((since, dry_run))
        return 0, 0

    monkeypatch.setattr(event_commands, "_republish", republish)
    ran = CliRunner().invoke(app, ["republish", "--since", given])
    assert (ran.exit_code, asked) == (0, [(since, False)])


class FakeRecords:
    """The records as the driver of MongoDB yields them, in the order of their keys."""

    def __init__(self, records: list[Any]) -> None:
        self.records = records
        self.queries = 0

    def find(self, condition: Any, _shown: Any) -> "FakeRecords":
        after = condition.get("_id", {}).get("$gt", -1)
        self.queries += 1
        return FakeRecords([record for record in self.records if record["_id"] > after])

    def sort(self, _key: str) -> "FakeRecords":
        return self

    def limit(self, count: int) -> Iterator[Any]:
        return iter(self.records[:count])


def record(key: int, *events: PageEvent | None) -> Any:
    outcomes = [{"event": event_as_bson(event)} for event in events]
    return {"_id": key, "url": "https://example.com/", "processing": {"outcomes": outcomes}}


def test_events_of_all_records_are_found_from_a_time_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "READ_AT_ONCE", 2)
    early = an_event(time=NOON - timedelta(microseconds=1))
    late = [an_event() for _ in range(4)]
    records = FakeRecords(
        [
            record(1, early, late[0]),
            record(2, None),
            {"_id": 3},  # of version 0.1.0
            record(4, late[1], late[2]),
            record(5, late[3]),
        ]
    )
    assert list(events_since(records, NOON)) == late
    assert records.queries == 4
