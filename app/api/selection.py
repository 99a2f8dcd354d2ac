"""`fields=status_code,headers`: which fields of the metadata a caller wants."""

from typing import Annotated

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import SkipJsonSchema

from app.api.schemas import FIELDS
from app.models import METADATA_FIELDS

FieldsQuery = Annotated[str | SkipJsonSchema[None], Query(**FIELDS)]
"""The parameter as it was sent. `selected()` reads it, and not a dependency of FastAPI, which would
cost each request some 20 µs of 400."""


def selected(fields: str | None) -> frozenset[str]:
    """Return the names, or those of all fields if none were asked for.

    Raises `RequestValidationError`, which is answered 400, for names that there are not.
    """
    if fields is None:
        return METADATA_FIELDS
    names = frozenset(fields.split(",")) if fields else frozenset[str]()
    if unknown := names - METADATA_FIELDS:
        known = ", ".join(sorted(METADATA_FIELDS))
        message = f"{', '.join(sorted(unknown))!r} unknown; the known fields are {known}"
        error = {"type": "value_error", "loc": ("query", "fields"), "msg": message}
        raise RequestValidationError([error])
    return names
