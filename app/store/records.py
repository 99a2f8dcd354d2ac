"""Reads page records: which fields a query is to bring, and what they mean."""

from collections.abc import Mapping
from typing import Any, get_type_hints

from loguru import logger
from pydantic import TypeAdapter, ValidationError

from app.errors import UnreadableRecord
from app.models import (
    MAX_INLINE_SOURCE_BYTES,
    METADATA_FIELDS,
    PageMetadata,
    PageRecord,
    PageStatus,
)
from app.store.claims import HAS_RESULT, IS_FINISHED, WAITING, Bson
from app.store.progress import error_of, known_status, refresh_of

Fields = frozenset[str]
"""Names of fields of the metadata."""

_METADATA = TypeAdapter(PageMetadata)
FieldTypes = Mapping[str, TypeAdapter[Any]]


def field_types(whole: type) -> FieldTypes:
    """Return how each field of a dataclass is checked when it is read alone."""
    return {name: TypeAdapter(kind) for name, kind in get_type_hints(whole).items()}


FIELD_TYPES = field_types(PageMetadata)

_SHOWN_PROCESSING = (
    *("attempts", "last_request_id", "lease_expires_at", "last_error", "claim", "finished"),
    *("requested_at", "waiting_since", "revision"),
)

_MAY_STALL = [PageStatus.QUEUED, PageStatus.IN_PROGRESS, PageStatus.FAILED_RETRYABLE]


def metadata_as_bson(metadata: PageMetadata) -> Bson:
    """Return what a record has of a page's metadata."""
    document: Bson = _METADATA.dump_python(metadata)
    return document


def record_fields(patience_seconds: float) -> Bson:
    """Return the projection of a record without its metadata.

    The database computes what depends on the time, by its own clock.
    """
    return {
        "url": True,
        "status": True,
        "has_metadata": {"$eq": [{"$type": "$metadata"}, "object"]},
        "processing": dict.fromkeys(_SHOWN_PROCESSING, True),
        "first_waiting": {"$first": WAITING},
        "created_at": True,
        "updated_at": True,
        "checked_at": True,
        "age_ms": {"$subtract": ["$$NOW", "$checked_at"]},
        "unchanged_ms": {"$subtract": ["$$NOW", "$updated_at"]},
        "has_stalled": _has_stalled(patience_seconds),
    }


def _has_stalled(patience_seconds: float) -> Bson:
    """Return the expression for: something is to come, and nobody seems to be at work on it."""
    lease = {"$ifNull": ["$processing.lease_expires_at", None]}
    last_change_allowed = {"$subtract": ["$$NOW", round(patience_seconds * 1000)]}
    lease_is_over = {"$lt": [lease, "$$NOW"]}
    waits_too_long = {"$lt": ["$updated_at", last_change_allowed]}
    stands_still = {"$cond": [{"$ne": [lease, None]}, lease_is_over, waits_too_long]}
    refresh_is_to_come = {"$or": [{"$not": [IS_FINISHED]}, {"$ne": [WAITING, []]}]}
    may_stall = {
        "$or": [{"$in": ["$status", _MAY_STALL]}, {"$and": [HAS_RESULT, refresh_is_to_come]}]
    }
    return {"$and": [may_stall, stands_still]}


_SOURCE_IS_TEXT = {"$eq": [{"$type": "$metadata.page_source"}, "string"]}
SOURCE_BYTES = {"$cond": [_SOURCE_IS_TEXT, {"$strLenBytes": "$metadata.page_source"}, 0]}
_SOURCE_IS_LARGE = {"$gt": [SOURCE_BYTES, MAX_INLINE_SOURCE_BYTES]}


def metadata_fields(fields: Fields) -> Bson:
    """Return the projection of some fields of the metadata, less a large page source."""
    if "page_source" not in fields:
        return whole_metadata_fields(fields)
    size = {"omitted_source_bytes": {"$cond": [_SOURCE_IS_LARGE, SOURCE_BYTES, 0]}}
    if fields == METADATA_FIELDS:
        without_source = {"$mergeObjects": ["$metadata", {"page_source": None}]}
        return size | {"metadata": {"$cond": [_SOURCE_IS_LARGE, without_source, "$metadata"]}}
    source = {"$cond": [_SOURCE_IS_LARGE, None, "$metadata.page_source"]}
    return whole_metadata_fields(fields) | size | {"metadata.page_source": source}


def whole_metadata_fields(fields: Fields) -> Bson:
    """Return the projection of some fields of the metadata, a large page source included."""
    whole = {"omitted_source_bytes": {"$literal": 0}}
    if fields == METADATA_FIELDS:
        return whole | {"metadata": True}
    return whole | {f"metadata.{name}": True for name in fields}


def record_of(document: Bson, fields: Fields, types: FieldTypes = FIELD_TYPES) -> PageRecord:
    """Read a record of which the metadata has some fields. Raises `UnreadableRecord`."""
    try:
        return _parse(document, fields, types)
    except (ValidationError, KeyError, TypeError) as exc:
        logger.error(
            "record_unreadable", url=document["url"], reason=f"{type(exc).__name__}: {exc}"
        )
        raise UnreadableRecord(f"the record of {document['url']} cannot be read") from exc


def _parse(document: Bson, fields: Fields, types: FieldTypes) -> PageRecord:
    processing = document["processing"]
    error = processing.get("last_error")
    metadata = document.get("metadata", {}) if document["has_metadata"] else None
    is_whole = fields == METADATA_FIELDS
    return PageRecord(
        url=document["url"],
        status=known_status(document["status"]),
        metadata=_METADATA.validate_python(metadata) if is_whole and metadata else None,
        selected=None if is_whole or metadata is None else selected(metadata, types),
        error=error_of(error),
        attempts=processing["attempts"],
        request_id=processing["last_request_id"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        lease_expires_at=processing.get("lease_expires_at"),
        has_stalled=document["has_stalled"],
        checked_at=document.get("checked_at"),
        refresh=refresh_of(document),
        age_seconds=_seconds(document.get("age_ms")),
        unchanged_seconds=_seconds(document["unchanged_ms"]) or 0,
        revision=processing.get("revision"),
        omitted_source_bytes=document["omitted_source_bytes"],
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def selected(values: Bson, types: FieldTypes) -> Bson:
    """Check some fields of a dataclass; one that the record does not have is left out."""
    return {name: types[name].validate_python(value) for name, value in values.items()}
