"""`migrate` and `reextract`: bring stored records up to date. Both can be stopped and repeated."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from bson import ObjectId
from pymongo.errors import PyMongoError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.terminal import (
    EXIT_BAD_RESULT,
    Json,
    console,
    errors_shown,
    print_json,
    progress_console,
    read_settings,
)
from app.extractor.document import EXTRACTOR_VERSION, HTML_TYPES, extract
from app.store.direct import connected
from app.store.documents import StoredDocuments
from app.store.mongo import COLLECTION
from app.store.spellings import Move, Respelling, Spellings

MAX_SHOWN = 20
"""How many records are shown one by one."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]
All = Annotated[bool, typer.Option("--all", help="Also pages that this version has read already")]


# --- migrate --------------------------------------------------------------------------------------


def migrate(*, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False) -> None:
    """Move records that an older version kept under another spelling of their URL.

    First says what it would do, and asks. Two records of one page become one, with the newer
    result. A record whose page is being fetched is left for the next time.

    Exit code: 0 if nothing is left to be moved, 1 if something is or the answer was no, 2 if the
    database does not answer.
    """
    settings = read_settings()
    patience_seconds = settings.patience.total_seconds()
    with errors_shown(), _pages() as pages:
        spellings = Spellings(pages, patience_seconds=patience_seconds)
        planned = _planned(spellings, show=not as_json)
        if dry_run or not (planned[Move.MOVED] or planned[Move.MERGED]):
            _end_migration(planned, would="would be ", left=_to_move(planned), as_json=as_json)
            return
        if not yes:
            typer.confirm(f"Move {planned[Move.MOVED] + planned[Move.MERGED]} records?", abort=True)
        done = _moved(spellings)
    _end_migration(done, would="", left=done[Move.IN_USE], as_json=as_json)


def _planned(spellings: Spellings, *, show: bool) -> Counter[Move]:
    """Count what is to be done, and show the first records."""
    plans = _with_progress("URLs looked at", spellings)
    counts: Counter[Move] = Counter()
    for respelling in plans:
        move = spellings.plan(respelling)
        counts[move] += 1
        if show and counts.total() <= MAX_SHOWN:
            console.print(f"{move}: {respelling.url}", soft_wrap=True)
            if respelling.canonical:
                console.print(f"    to {respelling.canonical}", soft_wrap=True)
    return counts


def _moved(spellings: Spellings) -> Counter[Move]:
    return Counter(map(spellings.move, _with_progress("URLs migrated", spellings)))


def _with_progress(what: str, spellings: Spellings) -> Iterator[Respelling]:
    with _progress() as progress:
        task = progress.add_task(what, total=spellings.count_records())
        for records, respellings in spellings.outdated():
            yield from respellings
            progress.advance(task, records)


def _to_move(planned: Counter[Move]) -> int:
    return planned.total() - planned[Move.NOT_TAKEN]


def _end_migration(counts: Counter[Move], *, would: str, left: int, as_json: bool) -> None:
    """Print the counts, and end with exit code 1 if something is left to be moved."""
    if as_json:
        print_json({move.replace(" ", "_"): counts[move] for move in Move})
    else:
        console.print(
            f"{counts[Move.MOVED]} records {would}moved, {counts[Move.MERGED]} {would}merged with "
            f"another one, {counts[Move.IN_USE]} are in use, {counts[Move.NOT_TAKEN]} have a URL "
            "that is not taken any more"
        )
        if counts[Move.IN_USE]:
            console.print("Repeat the command later for those in use.")
    if left:
        raise typer.Exit(EXIT_BAD_RESULT)


# --- reextract ------------------------------------------------------------------------------------


class Reading(StrEnum):
    """What became of the document of a page."""

    READ = "read"
    FETCHED_MEANWHILE = "fetched_meanwhile"
    FAILED = "failed"


def reextract(*, everything: All = False, as_json: Json = False) -> None:
    """Fill `metadata.document` of stored pages anew, without fetching them.

    Exit code: 0 on success, 1 if a page could not be read, 2 if the database does not answer.
    """
    with errors_shown(), _pages() as pages:
        stored = StoredDocuments(pages, html_types=HTML_TYPES, version=EXTRACTOR_VERSION)
        ids = _ids_with_progress(stored, everything=everything)
        counts = Counter(_read_again(stored, record_id) for record_id in ids)
    if as_json:
        print_json({reading: counts[reading] for reading in Reading})
    else:
        console.print(
            f"{counts[Reading.READ]} pages read, {counts[Reading.FETCHED_MEANWHILE]} fetched anew "
            f"meanwhile, {counts[Reading.FAILED]} could not be read"
        )
    if counts[Reading.FAILED]:
        raise typer.Exit(EXIT_BAD_RESULT)


def _ids_with_progress(stored: StoredDocuments, *, everything: bool) -> Iterator[ObjectId]:
    with _progress() as progress:
        task = progress.add_task("records", total=stored.count_records())
        for records, ids in stored.pages_to_read(everything=everything):
            yield from ids
            progress.advance(task, records)


def _read_again(stored: StoredDocuments, record_id: ObjectId) -> Reading:
    page = stored.read(record_id)
    if page is None:
        return Reading.FETCHED_MEANWHILE
    try:
        document = extract(page.html, page.final_url, page.headers)
        is_kept = stored.keep(page, document)
    except PyMongoError:
        raise
    except Exception as exc:  # noqa: BLE001 (one page that cannot be read must not stop the others)
        typer.echo(f"{page.url}: {type(exc).__name__}: {exc}", err=True)
        return Reading.FAILED
    return Reading.READ if is_kept else Reading.FETCHED_MEANWHILE


# --- Both -----------------------------------------------------------------------------------------


@contextmanager
def _pages() -> Iterator[Any]:
    settings = read_settings()
    with connected(
        settings.database_url,
        settings.database_name,
        timeout_seconds=settings.database_timeout_seconds,
    ) as database:
        yield database[COLLECTION]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=progress_console,
        disable=not progress_console.is_terminal,
    )
