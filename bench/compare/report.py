"""The tables, for the terminal and in Markdown, and a sentence about machine and versions."""

from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

import pymongo
from rich.table import Table

from bench.ground import Ground
from bench.report import machine, markdown_table

PACKAGES = ("celery", "dramatiq", "taskiq", "taskiq-aio-pika", "scrapy", "pymongo")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of each contestant, one for each round; more is better."""

    title: str
    unit: str
    measured: dict[str, list[float]]
    baselines: tuple[str, ...]
    remarks: dict[str, str]

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return ["", self.unit, "spread", *(f"/ {name}" for name in self.baselines)]

    @property
    def rows(self) -> list[list[str]]:
        """One row for each contestant: medians of figures and ratios, with their spread."""
        return [[name, *self._figures(values)] for name, values in self.measured.items()]

    def _figures(self, values: list[float]) -> list[str]:
        spread = f"{min(values):.0f} to {max(values):.0f}"
        ratios = (self._ratio(values, self.measured[name]) for name in self.baselines)
        return [f"{median(values):.0f}", spread, *ratios]

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


def where(ground: Ground, rounds: int) -> str:
    """Return a sentence about machine, servers and packages."""
    with pymongo.MongoClient[dict[str, object]](ground.mongodb.url) as client:
        mongodb = str(client.server_info()["version"])
    rabbitmq = ground.rabbitmq.ctl("version").strip()
    others = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{machine({'RabbitMQ': rabbitmq, 'MongoDB': mongodb}, rounds)} Beside ours: {others}.\n"
