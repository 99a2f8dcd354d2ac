"""`just bench [rounds]`: how fast the service is, relative to named baselines.

Each round measures a baseline and ours one after the other, on the same servers. The result is the
median of the rounds. Nothing else should run on the machine meanwhile.
"""

import os
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markdown import Markdown

from bench.http import (
    GET_ON_PYMONGO,
    POST_ON_PYMONGO,
    other_driver,
    posting,
    publishing,
    reading,
)
from bench.idle import end_to_end, starting_up
from bench.report import Reading, Target, machine, rows_of, write_results
from bench.setup import Setup, prepared
from bench.strangers import KINDS, strangers
from bench.waiting import waiting
from bench.worker import (
    ALSO,
    HOLD_ON_PYMONGO,
    collecting,
    collecting_news,
    collecting_slow_pages,
    scaling,
)

BENCHMARKS: list[Callable[[Setup], Iterator[Reading]]] = [
    posting,
    publishing,
    reading,
    other_driver,
    waiting,
    strangers,
    collecting,
    collecting_news,
    end_to_end,
    collecting_slow_pages,
    scaling,
    starting_up,
]

TARGETS = [
    Target("POST", "a second", "no-op and bare publish", 0.75, at_least=True),
    Target("POST p99 at half that load", "ms", "its median", 3, at_least=False),
    Target("RequestPublisher alone", "messages a second", "", 4000, at_least=True),
    Target("GET of 20 KB", "a second", "no-op endpoint", 0.55, at_least=True),
    Target("GET of three fields", "a second", "no-op endpoint", 0.50, at_least=True),
    Target("GET answered 304", "a second", "no-op endpoint", 0.50, at_least=True),
    Target(POST_ON_PYMONGO, "a second", "on Motor"),
    Target(GET_ON_PYMONGO, "a second", "on Motor"),
    Target("1,000 waiters: p99 from record to answer", "ms", "", 250, at_least=False),
    Target("1,000 waiters: CPU of the API", "% of a core", "", 10, at_least=False),
    *(Target(f"key holders beside {kind}", "ms", "alone", 1.1, at_least=False) for kind in KINDS),
    Target("worker", "pages a second", "bare httpx loop", 0.75, at_least=True),
    Target("worker: CPU of a page", "ms", "", 1.5, at_least=False),
    *(Target(row, "pages a second", "worker") for row in ALSO),
    Target("pages of 270 KB: longest hold", "ms", "", 20, at_least=False),
    Target(HOLD_ON_PYMONGO, "ms", "", 20, at_least=False),
    Target("pages of 270 KB: CPU of a page", "ms", "without extraction", 1.4, at_least=False),
    Target("POST to record, idle", "ms", "its parts", 3, at_least=False),
    Target("slow pages", "pages a second", "", 150, at_least=True),
    Target("slow pages: memory", "MiB", "", 250, at_least=False),
    Target("two workers", "pages a second", "one worker", 1.7, at_least=True),
    Target("start-up of the API", "s", "", 2, at_least=False),
    Target("start-up of a worker", "s", "", 2, at_least=False),
]


def main() -> None:
    """Run all benchmarks, or those that are named after the rounds; print and write the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    named = sys.argv[2:]
    chosen = [each for each in BENCHMARKS if not named or each.__name__ in named]
    console = Console(highlight=False)
    readings: list[Reading] = []
    with prepared() as setup:
        for number in range(rounds):
            for measure in chosen:
                for found in measure(setup):
                    readings.append(found)
                    console.print(f"  round {number + 1}: {found.row}: {found.value:.3g}")
        where = machine(setup.versions(), rounds)
    name = "partial" if named else "bench"
    written = write_results(name, rows_of(TARGETS, readings), where)
    console.print(Markdown(written.read_text()))
    console.print(f"Written to {written}. The load of the machine is {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
