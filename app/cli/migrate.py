"""`migrate`: bring the records that an older version has written into today's form."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Protocol

import typer
from rich.text import Text

from app.cli.showing import visible
from app.cli.terminal import (
    EXIT_BAD_RESULT,
    Json,
    confirm,
    console,
    opened_pages,
    print_json,
    reported_errors,
)
from app.store.respelling import Misspelled, Respelling
from app.store.undated import Undated
from app.store.unlisted import MissingIndexes, Unlisted

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
    INDEX = "index"
    """Lists need it, and the collection was too large to make it at start."""
    LIST = "list"
    """It does not have the terms under which a search finds it."""
    DATE = "date"
    """It does not say when its page was last asked for."""


_SAID = {
    Step.MOVE: "to move to the canonical spelling of the URL",
    Step.MERGE: "to merge with the record under the canonical spelling, the newer result staying",
    Step.INVALID: "with a URL that is not taken any more, left as before",
    Step.BUSY: "left, because a fetch was under way; run the command again",
    Step.INDEX: "to make, so that the inventory can be listed",
    Step.LIST: "to give the terms under which a search finds them",
    Step.DATE: "to be dated as asked for now, so that PAGES_RETENTION_DAYS applies to them",
}


class Filling(Protocol):
    """Something that older versions did not write."""

    def count(self) -> int:
        """Return how often it is missing."""

    def fill_in(self) -> None:
        """Write it."""


def migrate(*, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False) -> None:
    """Bring records of older versions into the form of this one, and make missing indexes.

    Records that version 0.1.0 has written under another spelling of their URL are moved. Those that
    lack the terms of their host and title, or the time at which their page was last asked for, are
    given them.

    Says what is to be done, asks, and does it. It may run beside API and workers, be stopped at
    any time and started again: it goes on with what is left.

    Exit code: 0 if nothing is left to do (with --dry-run: always), 1 if records were left or the
    answer was no, 2 if the database does not answer.
    """
    with reported_errors(), opened_pages() as pages:
        respelling = Respelling(pages)
        # The index comes before what looks for the records that it has.
        fillings: dict[Step, Filling] = {
            Step.INDEX: MissingIndexes(pages),
            Step.LIST: Unlisted(pages),
            Step.DATE: Undated(pages),
        }
        planned = _plan(respelling, fillings, shows=not as_json)
        if not dry_run and _has_work(planned):
            if not yes:
                confirm("Do it?", as_json=as_json)
            planned[Step.BUSY] = _carry_out(respelling)
            for filling in fillings.values():
                filling.fill_in()
    if as_json:
        print_json({step: planned[step] for step in Step})
    elif not dry_run or not any(planned.values()):
        console.print(_ending(planned[Step.BUSY]))
    if planned[Step.BUSY]:
        raise typer.Exit(EXIT_BAD_RESULT)


def _has_work(planned: Counter[Step]) -> bool:
    return any(planned[step] for step in Step if step not in {Step.INVALID, Step.BUSY})


def _ending(left: int) -> str:
    return _said(Step.BUSY, left) if left else "Nothing is left to do."


def _said(step: Step, count: int) -> str:
    one, many = ("index", "indexes") if step is Step.INDEX else ("record", "records")
    return f"{count} {one if count == 1 else many} {_SAID[step]}"


def _plan(
    respelling: Respelling, fillings: Mapping[Step, Filling], *, shows: bool
) -> Counter[Step]:
    planned: Counter[Step] = Counter()
    for page in respelling.misspelled():
        step = _step(respelling, page)
        planned[step] += 1
        if shows and planned[step] <= SHOWN:
            line = Text(f"{step}: {visible(page.url)} {_target(page)}")
            console.print(line, soft_wrap=True)
    planned.update({step: filling.count() for step, filling in fillings.items()})
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
