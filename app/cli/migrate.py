"""`migrate`: bring the records that an older version has written into today's form."""

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
    reported_errors,
)
from app.store.respelling import Misspelled, Respelling
from app.store.undated import Undated

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]

SHOWN = 10
"""How many examples of each kind are shown."""


class Step(StrEnum):
    """What is to be done with a record, or why nothing is."""

    MOVE = "move"
    MERGE = "merge"
    """Its page has a record under the canonical spelling too: one of them stays."""
    INVALID = "invalid"
    """This version does not take its URL, which so has no canonical spelling."""
    BUSY = "busy"
    """It has to wait: a worker fetches its page, or it has changed since it was read."""
    DATE = "date"
    """It does not say when its page was last asked for."""


_SAID = {
    Step.MOVE: "to move to the canonical spelling of the URL",
    Step.MERGE: "to merge with the record under the canonical spelling, the newer result staying",
    Step.INVALID: "with a URL that is not taken any more, left as before",
    Step.BUSY: "left, because a fetch was under way; run the command again",
    Step.DATE: "to be dated as asked for now, so that PAGES_RETENTION_DAYS applies to them",
}


def migrate(*, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False) -> None:
    """Move records that version 0.1.0 has written under another spelling of their URL.

    Also has records that do not say when their page was last asked for say that it was now.

    Says what is to be done, asks, and does it. It may run beside API and workers, be stopped at
    any time and started again: it goes on with what is left.

    Exit code: 0 if nothing is left to do (with --dry-run: always), 1 if records were left or the
    answer was no, 2 if the database does not answer.
    """
    with reported_errors(), opened_pages() as pages:
        respelling, undated = Respelling(pages), Undated(pages)
        planned = _plan(respelling, undated, shows=not as_json)
        if not dry_run and _has_work(planned):
            if not yes:
                typer.confirm("Do it?", abort=True, err=as_json)
            planned[Step.BUSY] = _carry_out(respelling)
            undated.date()
    if as_json:
        print_json({step: planned[step] for step in Step})
    elif not dry_run:
        console.print(_ending(planned[Step.BUSY]))
    if planned[Step.BUSY]:
        raise typer.Exit(EXIT_BAD_RESULT)


def _has_work(planned: Counter[Step]) -> bool:
    return bool(planned[Step.MOVE] + planned[Step.MERGE] + planned[Step.DATE])


def _ending(left: int) -> str:
    return _said(Step.BUSY, left) if left else "Nothing is left to do."


def _said(step: Step, count: int) -> str:
    return f"{count} {'record' if count == 1 else 'records'} {_SAID[step]}"


def _plan(respelling: Respelling, undated: Undated, *, shows: bool) -> Counter[Step]:
    planned: Counter[Step] = Counter()
    for page in respelling.misspelled():
        step = _step(respelling, page)
        planned[step] += 1
        if shows and planned[step] <= SHOWN:
            console.print(f"{step}: {page.url} {_target(page)}", soft_wrap=True)
    planned[Step.DATE] = undated.count()
    if shows:
        for step, count in (+planned).items():
            console.print(_said(step, count), soft_wrap=True)
    return planned


def _step(respelling: Respelling, page: Misspelled) -> Step:
    if page.canonical is None:
        return Step.INVALID
    return Step.MERGE if respelling.has_two(page) else Step.MOVE


def _target(page: Misspelled) -> str:
    return f"-> {page.canonical}" if page.canonical else ""


def _carry_out(respelling: Respelling) -> int:
    """Move what can be moved now, and return how many records have to wait."""
    return sum(
        not respelling.move(page.url, page.canonical)
        for page in respelling.misspelled()
        if page.canonical is not None
    )
