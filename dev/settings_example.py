"""`.env.example`, written from the settings: `python -m dev.settings_example [--check]`."""

from typing import Any

from pydantic.fields import FieldInfo

from app.runtime.settings import Settings
from dev.generated import write_or_check
from dev.stack import ROOT

FILE = ROOT / ".env.example"

_HEAD = """\
# Every setting with its default: copy this file to .env and change what you need.
# What the environment sets comes before what .env sets. Durations are in seconds.
"""
_COMPOSE = """
# For Docker Compose alone, which asks for them: the passwords of the service's user in the
# broker and in the database, and of the database's administrator. Letters and digits only,
# as they become parts of URLs.
# RABBITMQ_PASSWORD=
# MONGO_PASSWORD=
# MONGO_ROOT_PASSWORD=

# The same for its profile `observability`: the password of Grafana's user `admin`.
# GRAFANA_PASSWORD=

# Where traces go, by OTLP over HTTP; read from the environment, which Compose fills from
# .env. Nothing is traced where it is not set.
# OTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger:4318
"""


def settings_example() -> str:
    """Return the text of `.env.example`."""
    entries = [_entry(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join([_HEAD, *entries]) + _COMPOSE


def _entry(name: str, field: FieldInfo) -> str:
    comment = " ".join((field.description or "").split())
    return f"# {comment}\n{name.upper()}={_spelled(field.default)}\n"


def _spelled(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str() if " " in value:
            return f'"{value}"'
        case str() | int() | float():
            return str(value)
        case frozenset():
            return _spelled(tuple(sorted(value)))
        case tuple():
            return ",".join(map(_spelled, value))
        case _:
            raise TypeError(f"cannot write a default of this type: {value!r}")


if __name__ == "__main__":
    write_or_check({FILE: settings_example()}, recipe="env-example")
