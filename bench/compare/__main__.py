"""The rounds. Each measures every contestant once, one after the other, on the same servers.

A ratio is that of two figures of the same round. Nothing else should run on the machine meanwhile.
"""

import sys
from collections.abc import Callable

from rich.console import Console

from bench.compare import publishers, workers
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
virtual host and a database of its own.
"""

Measured = dict[str, list[float]]
"""For each contestant its figure of each round."""

_console = Console(highlight=False)


def main() -> None:
    """Measure everything, print the tables and write them into a file."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with prepared_ground() as ground:
        comparisons = _compared(ground, rounds)
        measured_on = where(ground, rounds)
    for comparison in comparisons:
        _console.print(comparison.table(), "")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "compare.md"
    path.write_text("\n".join([PREFACE, *(each.markdown() for each in comparisons), measured_on]))
    _console.print(f"Written to {path.relative_to(ROOT)}")


def _compared(ground: Ground, rounds: int) -> list[Comparison]:
    collected: Measured = {name: [] for name in WORKERS}
    published: Measured = {name: [] for name in PUBLISHERS}
    for number in range(1, rounds + 1):
        _console.print(f"Round {number} of {rounds}")
        _measure(ground, WORKERS, collected)
        _measure(ground, PUBLISHERS, published)
    return [
        Comparison(
            "Workers: from a filled queue to stored records",
            "pages a second",
            collected,
            (BARE, ONE_AT_A_TIME),
            workers.REMARKS,
        ),
        Comparison(
            f"Publishers: {CALLERS} callers at once",
            "confirmed messages a second",
            published,
            (LOCKED,),
            publishers.REMARKS,
        ),
    ]


def _measure(
    ground: Ground, contestants: dict[str, Callable[[Ground], float]], measured: Measured
) -> None:
    for name, per_second in contestants.items():
        measured[name].append(per_second(ground))
        _console.print(f"  {name}: {measured[name][-1]:.0f} a second")


if __name__ == "__main__":
    main()
