"""How long the database takes for a command, as its driver tells."""

from pymongo import monitoring

from app.metrics import DATABASE_SECONDS

_MICROSECONDS = 1_000_000
_OURS = frozenset({"find", "findAndModify", "update", "delete", "insert", "ping"})


class CommandTimer(monitoring.CommandListener):
    """Observes every command that got an answer; pymongo calls it in the driver's own thread."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Do nothing: the driver measures the time itself."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Observe a command that the server has carried out."""
        _observe(event.command_name, "success", event.duration_micros)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Observe a command that the server refused, or whose connection was lost."""
        _observe(event.command_name, "failure", event.duration_micros)


def _observe(command: str, outcome: str, microseconds: int) -> None:
    label = command if command in _OURS else "other"
    DATABASE_SECONDS.labels(label, outcome).observe(microseconds / _MICROSECONDS)
