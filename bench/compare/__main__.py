"""The rounds. Each measures every contestant once, one after the other, on the same servers.

A ratio is that of two figures of the same round. Nothing else should run on the machine meanwhile.
"""

import sys

from rich.console import Console

from bench.compare import posters, publishers, workers
from bench.compare.posters import NOOP, POSTERS
from bench.compare.publishers import LOCKED, PUBLISHERS
from bench.compare.report import Comparison, where
from bench.compare.sending import CALLERS
from bench.compare.workers import BARE, ONE_AT_A_TIME, WORKERS
from bench.ground import Ground, prepared_ground
from bench.report import RESULTS
from dev.stack import ROOT

PREFACE = """\
# Beside what else a user might choose

Written by `just bench-compare`. The figures are medians of the rounds, with the lowest and the
highest round; a ratio is that of two figures of the same round. All contestants have the same pages
of 10 KB, the same RabbitMQ and MongoDB, quorum queues, persistent messages, publisher confirms,
acknowledgement after the work, and write concern majority with journal. Each measurement has a
virtual host and a database of its own. The CPU time is that of the contestant's processes, for one
page, request or message; RabbitMQ's and MongoDB's come on top of it. The APIs are one process each
of the same FastAPI with the same body. All but ours run under `uvicorn` as it starts by default,
which logs a line for each request.
"""

_console = Console(highlight=False)


def main() -> None:
    """Measure everything, print the tables and write them into a file."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    comparisons = [_workers(), _posters(), _publishers()]
    with prepared_ground() as ground:
        for number in range(1, rounds + 1):
            _console.print(f"Round {number} of {rounds}")
            for comparison in comparisons:
                _measure(ground, comparison)
        measured_on = where(ground, rounds)
    for comparison in comparisons:
        _console.print(comparison.table(), "")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "compare.md"
    path.write_text("\n".join([PREFACE, *(each.markdown() for each in comparisons), measured_on]))
    _console.print(f"Written to {path.relative_to(ROOT)}")


def _workers() -> Comparison:
    return Comparison(
        "Workers: from a filled queue to stored records",
        "pages a second",
        WORKERS,
        (BARE, ONE_AT_A_TIME),
        workers.REMARKS,
    )


def _posters() -> Comparison:
    return Comparison(
        f"POST: {CALLERS} callers at once, one API process",
        "answers a second",
        POSTERS,
        (NOOP,),
        posters.REMARKS,
    )


def _publishers() -> Comparison:
    return Comparison(
        f"Publishers: {CALLERS} callers at once",
        "confirmed messages a second",
        PUBLISHERS,
        (LOCKED,),
        publishers.REMARKS,
    )


def _measure(ground: Ground, comparison: Comparison) -> None:
    for name, measure in comparison.contestants.items():
        rate = measure(ground)
        comparison.measured[name].append(rate)
        _console.print(f"  {name}: {rate.per_second:.0f} a second, {rate.cpu_ms:.2f} ms of CPU")


if __name__ == "__main__":
    main()
