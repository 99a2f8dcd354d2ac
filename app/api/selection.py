"""`fields=status_code,headers`: which fields of the metadata a caller wants."""

from typing import Annotated

from fastapi import Query
from pydantic.json_schema import SkipJsonSchema

from app.api.problems import invalid_query
from app.api.schemas import FIELDS
from app.models import METADATA_FIELDS

FieldsQuery = Annotated[str | SkipJsonSchema[None], Query(**FIELDS)]
"""The parameter as it was sent. `selected()` reads it, and not a dependency of FastAPI, which would
cost each request some 20 µs of 400."""

_SHOWN_NAMES = 5
_SHOWN_CHARACTERS = 50
"""How much of unknown names is repeated in an answer: a caller may send 64 KB of them."""


def selected(fields: str | None) -> frozenset[str]:
    """Return the names, or those of all fields if none were asked for.

    Raises `RequestValidationError`, which is answered 400, for names that there are not.
    """
    if fields is None:
        return METADATA_FIELDS
    names = frozenset(fields.split(",")) if fields else frozenset[str]()
    if unknown := names - METADATA_FIELDS:
        raise invalid_query("fields", _message(unknown))
    return names


def _message(unknown: frozenset[str]) -> str:
    shown = ", ".join(repr(name[:_SHOWN_CHARACTERS]) for name in sorted(unknown)[:_SHOWN_NAMES])
    return f"no such fields: {shown}; the known fields are {', '.join(sorted(METADATA_FIELDS))}"
