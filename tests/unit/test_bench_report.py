"""The report of the benchmarks: a figure for each target, and whether it is reached."""

from xml.etree import ElementTree as ET

from bench.report import HEADINGS, Reading, Target, markdown_table, picture, rows_of

FAST = Target("POST", "a second", "no-op", 0.4, at_least=True)
SMALL = Target("memory", "MiB", "", 250, at_least=False)
MORE = Target("worker, documents filled", "a second", "worker")


def test_a_row_is_the_median_of_its_rounds_held_against_its_target() -> None:
    cpu = {"API": 1.25}
    readings = [Reading("POST", ours, 1000, cpu) for ours in (300, 500, 420)]
    readings += [Reading("memory", 300)]
    table = markdown_table(HEADINGS, (row.cells() for row in rows_of([FAST, SMALL], readings)))
    assert table.splitlines()[2:] == [
        "| POST | 420 a second | no-op: 1000 | 0.42 (0.3 to 0.5) | ≥ 0.4 | yes | API 1.25 |",
        "| memory | 300 MiB |  | 300 (300 to 300) | ≤ 250 | **no** |  |",
    ]


def test_a_row_without_a_target_has_figures_but_no_bar() -> None:
    rows = rows_of([MORE], [Reading("worker, documents filled", 300, 400)])
    assert rows[0].cells() == [
        "worker, documents filled", "300 a second", "worker: 400", "0.75 (0.75 to 0.75)", "", "", ""
    ]  # fmt: skip
    assert "documents" not in picture(rows)


def test_a_bar_is_as_long_as_the_share_of_the_target_that_is_reached() -> None:
    rows = rows_of([FAST, SMALL], [Reading("POST", 200, 1000), Reading("memory", 250)])
    svg = ET.fromstring(picture(rows))  # noqa: S314 (our own)
    bars = [rect for rect in svg.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x")]
    assert [bar.get("width") for bar in bars] == ["130", "260"]
    assert bars[0].get("fill") != bars[1].get("fill")
