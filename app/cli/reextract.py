"""`reextract`: read the stored pages anew, without fetching them."""

from collections import Counter
from enum import StrEnum
from typing import Annotated

import typer

from app.cli.terminal import (
    EXIT_BAD_RESULT,
    Json,
    console,
    opened_pages,
    print_json,
    progress,
    reported_errors,
)
from app.errors import NotStorable, UnreadableRecord
from app.extractor.document import EXTRACTOR_VERSION, HTML_TYPES, extract
from app.models import Document
from app.store.rereading import Head, Source, StoredPages

All = Annotated[
    bool, typer.Option("--all", help="Also pages that this version of the extractor has read")
]


class ExtractionFailed(Exception):
    """One page could not be read; the others still can."""


class Result(StrEnum):
    """What became of one page."""

    READ = "read"
    CHANGED = "changed_meanwhile"
    """Nothing was to be read: it was fetched again meanwhile, or deleted, or it has no source."""
    FAILED = "failed"


def reextract(*, everything: All = False, as_json: Json = False) -> None:
    """Fill `metadata.document` of stored pages anew, from their stored source.

    Takes the pages that an older version of the extractor has read, and those that none has read.
    It may run beside API and workers, be stopped at any time and started again: it goes on with
    what is left.

    Exit code: 0, 1 if a page could not be read or its record got too large, 2 if the database does
    not answer.
    """
    with reported_errors():
        counts = _reextract_all(everything=everything)
    if as_json:
        print_json({result: counts[result] for result in Result})
    else:
        console.print(_in_words(counts))
    if counts[Result.FAILED]:
        raise typer.Exit(EXIT_BAD_RESULT)


def _reextract_all(*, everything: bool) -> Counter[Result]:
    counts: Counter[Result] = Counter()
    with opened_pages() as collection, progress() as shown:
        pages = StoredPages(collection)
        task = shown.add_task("records", total=pages.count())
        for heads in pages.batches():
            for head in heads:
                if _is_wanted(head, everything=everything):
                    counts[_reextract(pages, head)] += 1
                shown.advance(task)
    return counts


def _is_wanted(head: Head, *, everything: bool) -> bool:
    is_old = (head.extractor_version or 0) < EXTRACTOR_VERSION
    return head.content_type in HTML_TYPES and (everything or is_old)


def _reextract(pages: StoredPages, head: Head) -> Result:
    try:
        source = pages.source(head)
        if source and pages.keep(source, _document(source)):
            return Result.READ
    except (NotStorable, UnreadableRecord, ExtractionFailed) as exc:
        typer.echo(f"record {head.record}: {exc}", err=True)
        return Result.FAILED
    return Result.CHANGED


def _document(source: Source) -> Document:
    try:
        return extract(source.page_source, source.final_url, source.headers)
    except Exception as exc:
        raise ExtractionFailed(f"{source.url}: {type(exc).__name__}: {exc}") from exc


def _in_words(counts: Counter[Result]) -> str:
    words = f"{counts[Result.READ]} pages read"
    if changed := counts[Result.CHANGED]:
        words += f", {changed} left because they changed meanwhile or have no stored source"
    if failed := counts[Result.FAILED]:
        words += f", {failed} failed: their documents are as they were"
    return words
