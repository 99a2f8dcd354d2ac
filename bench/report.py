"""Writes the measurements as a table and a picture into `bench/results/`."""

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Reading:
    """One round's figures for a row of the table; a row without a ratio has no baseline.

    `cpu` has the CPU time of one page or request in milliseconds, by process.
    """

    row: str
    ours: float
    baseline: float | None = None
    cpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """What is compared with the target: the ratio to the baseline, else the figure itself."""
        return self.ours if self.baseline is None else self.ours / self.baseline


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a row: at least `bound`, or at most. `unit` is the unit of its figures.

    A row without `bound` is only measured.
    """

    row: str
    unit: str
    baseline: str
    bound: float | None = None
    at_least: bool = True

    def cells(self, value: float) -> list[str]:
        """Return the target as it is printed, and whether the value reaches it."""
        if self.bound is None:
            return ["", ""]
        sign = "≥" if self.at_least else "≤"
        return [f"{sign} {self.bound:g}", "yes" if self.share(value) >= 1 else "**no**"]

    def share(self, value: float) -> float:
        """Return how much of the target is reached; 1 or more means that it is met."""
        if self.bound is None:
            return 1
        return value / self.bound if self.at_least else self.bound / value


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of one row."""

    target: Target
    readings: Sequence[Reading]

    @property
    def value(self) -> float:
        """The median of the rounds' values."""
        return statistics.median(reading.value for reading in self.readings)

    def cells(self) -> list[str]:
        """Return the row as it is printed."""
        values = sorted(reading.value for reading in self.readings)
        baselines = [reading.baseline for reading in self.readings if reading.baseline is not None]
        return [
            self.target.row,
            f"{_short(statistics.median(r.ours for r in self.readings))} {self.target.unit}",
            f"{self.target.baseline}: {_short(statistics.median(baselines))}" if baselines else "",
            f"{_short(self.value)} ({_short(values[0])} to {_short(values[-1])})",
            *self.target.cells(self.value),
            self._cpu(),
        ]

    def _cpu(self) -> str:
        medians = {
            name: statistics.median(reading.cpu[name] for reading in self.readings)
            for name in self.readings[0].cpu
        }
        return ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in medians.items())


HEADINGS = [
    "what",
    "ours",
    "baseline",
    "ratio or figure (spread)",
    "target",
    "met",
    "CPU time of one, in ms",
]


def rows_of(targets: Sequence[Target], readings: Iterable[Reading]) -> list[Row]:
    """Return a row for each target that was measured."""
    by_row: Mapping[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_row[reading.row].append(reading)
    return [Row(target, by_row[target.row]) for target in targets if target.row in by_row]


def markdown_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rule = ["---"] * len(headings)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *lines))


def machine(servers: Mapping[str, str], rounds: int) -> str:
    """Return a sentence about machine and versions; `servers` maps names to versions."""
    packages = ("fastapi", "uvicorn", "faststream", "aio-pika", "motor", "httpx")
    versions = [
        f"Python {platform.python_version()}",
        *(f"{name} {number}" for name, number in servers.items()),
        *(f"{name} {version(name)}" for name in packages),
    ]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {rounds} rounds, {os.cpu_count()} cores "
        f"({_processor()}), {platform.system()} {platform.release()}; {', '.join(versions)}."
    )


def write_results(name: str, rows: Sequence[Row], where: str) -> Path:
    """Write the table and the picture; return the path of the table."""
    RESULTS.mkdir(exist_ok=True)
    table = markdown_table(HEADINGS, (row.cells() for row in rows))
    path = RESULTS / f"{name}.md"
    path.write_text(f"{table}\n\n{where}\n")
    (RESULTS / f"{name}.svg").write_text(picture(rows))
    return path


BAR_HEIGHT, BAR_START, TARGET_WIDTH, WIDTH = 26, 390, 260, 890


def picture(rows: Sequence[Row]) -> str:
    """Return an SVG with a bar for each target: its length is the share of it that is reached."""
    rows = [row for row in rows if row.target.bound is not None]
    height = BAR_HEIGHT * (len(rows) + 1)
    line = BAR_START + TARGET_WIDTH
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
            "<style>text {font: 13px sans-serif}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            *(_bar(number, row) for number, row in enumerate(rows)),
            f'<path d="M{line} 0V{height - BAR_HEIGHT}" stroke="#222" stroke-dasharray="4 3"/>',
            f'<text x="{line}" y="{height - 8}" text-anchor="middle">target</text>',
            "</svg>\n",
        ]
    )


def _bar(number: int, row: Row) -> str:
    top = number * BAR_HEIGHT
    longest = WIDTH - BAR_START - 60
    share = row.target.share(row.value)
    width = min(share * TARGET_WIDTH, longest)
    color = "#2a7d4f" if share >= 1 else "#c0562b"
    return (
        f'<text x="{BAR_START - 8}" y="{top + 18}" text-anchor="end">{row.target.row}</text>'
        f'<rect x="{BAR_START}" y="{top + 4}" width="{width:.0f}" height="18" fill="{color}"/>'
        f'<text x="{BAR_START + width + 6:.0f}" y="{top + 18}">{_short(row.value)}</text>'
    )


def _short(figure: float) -> str:
    """Return a figure with three significant digits."""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"  # noqa: PLR2004 (three digits)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()
