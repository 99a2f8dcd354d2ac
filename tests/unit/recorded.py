"""What was logged, as events with their fields."""

from collections.abc import Mapping
from itertools import pairwise
from traceback import format_exception
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loguru import Message

Fields = Mapping[str, Any]


def _traceback(fields: Fields) -> str:
    exception = fields["exception"]
    return "".join(format_exception(exception.value)) if exception else ""


class Log:
    """The events in their order; a test asks for those it is about."""

    def __init__(self) -> None:
        self._records: list[tuple[str, Fields]] = []

    def write(self, message: "Message") -> None:
        record = message.record
        facts = {"level": record["level"].name, "exception": record["exception"]}
        self._records.append((record["message"], {**record["extra"], **facts}))

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self._records]

    @property
    def everything(self) -> str:
        """All that was logged, with the texts of exceptions."""
        return "\n".join(
            f"{event} {fields} {_traceback(fields)}" for event, fields in self._records
        )

    def all(self, event: str) -> list[Fields]:
        return [fields for name, fields in self._records if name == event]

    def one(self, event: str) -> Fields:
        (fields,) = self.all(event)
        return fields

    @property
    def states(self) -> list[str]:
        """The states the publisher went through, checked to be one unbroken path."""
        moves = self.all("publisher_state")
        assert all(one["to"] == other["from"] for one, other in pairwise(moves))
        return [str(move["to"]) for move in moves]
