"""The tables, for the terminal and in Markdown, and a sentence about machine and versions."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median

import pymongo
from rich.table import Table

from bench.cpu import Rate
from bench.ground import Ground
from bench.report import machine, markdown_table

PACKAGES = ("celery", "dramatiq", "taskiq", "taskiq-aio-pika", "scrapy", "pymongo")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The contestants with the functions that measure them, and their rates, one for each round."""

    title: str
    unit: str
    contestants: dict[str, Callable[[Ground], Rate]]
    baselines: tuple[str, ...]
    remarks: dict[str, str]
    measured: defaultdict[str, list[Rate]] = field(default_factory=lambda: defaultdict(list))

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        ratios = (f"/ {name}" for name in self.baselines)
        return ["", self.unit, "spread", *ratios, "CPU time of one, in ms"]

    @property
    def rows(self) -> list[list[str]]:
        """One row for each contestant: medians of figures and ratios, with their spread."""
        return [[name, *self._figures(rates)] for name, rates in self.measured.items()]

    def _figures(self, rates: list[Rate]) -> list[str]:
        values = _per_second(rates)
        spread = f"{min(values):.0f} to {max(values):.0f}"
        baselines = (_per_second(self.measured[name]) for name in self.baselines)
        ratios = (self._ratio(values, baseline) for baseline in baselines)
        cpu_ms = median(rate.cpu_ms for rate in rates)
        return [f"{median(values):.0f}", spread, *ratios, f"{cpu_ms:.2f}"]

    @staticmethod
    def _ratio(values: list[float], baseline: list[float]) -> str:
        ratios = [ours / theirs for ours, theirs in zip(values, baseline, strict=True)]
        return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    def table(self) -> Table:
        """Return the table for the terminal."""
        table = Table(*self.header, title=self.title, title_justify="left", box=None)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return a section with the table and the remarks."""
        rows = ([*row, self.remarks[row[0]]] for row in self.rows)
        return f"## {self.title}\n\n{markdown_table([*self.header, 'remarks'], rows)}\n"


def _per_second(rates: list[Rate]) -> list[float]:
    return [rate.per_second for rate in rates]


def where(ground: Ground, rounds: int) -> str:
    """Return a sentence about machine, servers and packages."""
    with pymongo.MongoClient[dict[str, object]](ground.mongodb.url) as client:
        mongodb = str(client.server_info()["version"])
    rabbitmq = ground.rabbitmq.ctl("version").strip()
    others = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{machine({'RabbitMQ': rabbitmq, 'MongoDB': mongodb}, rounds)} Beside ours: {others}.\n"
