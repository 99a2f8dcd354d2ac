"""How good `metadata.document` is, and what it costs: `python -m bench.extraction`.

It compares the pages of `tests/corpus/` with the values that people expect of them, and prints the
agreement for each field. Then it prints the CPU time of reading a page, by its size.
"""

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.extractor.document import extract
from app.models import Document, Header, PageImage

CORPUS = Path(__file__).parent.parent / "tests" / "corpus"

TARGETS = {
    "title": 98,
    "description": 98,
    "language": 98,
    "canonical_url": 98,
    "image": 95,
    "site_name": 90,
    "published_at": 90,
    "author": 80,
}
"""The least agreement in percent. The other fields have none."""

SIZES = {"10 KB": 10_000, "270 KB": 270_000, "5 MB": 5_000_000}
_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field of one page."""

    page: str
    field: str
    expected: Any
    found: Any

    @property
    def agrees(self) -> bool:
        """Whether the extractor found what is expected."""
        return bool(self.expected == self.found)


def comparisons() -> Iterator[Comparison]:
    """Compare every field that a page of the corpus has an expected value for."""
    for path in sorted(CORPUS.glob("*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        html = path.with_suffix(".html").read_text(encoding="utf-8")
        headers = [Header(*header) for header in case.get("headers", {}).items()]
        document = extract(html, case["url"], headers)
        for field, expected in case["expected"].items():
            yield Comparison(path.stem, field, expected, plain(document, field))


def plain(document: Document, field: str) -> Any:
    """Return the value of a field as the corpus writes it."""
    value = getattr(document, field)
    if isinstance(value, PageImage):
        return value.url
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


def a_page(size: int) -> str:
    """Return a page of about `size` characters, a third of them before its body."""
    head, body = (CORPUS / "news-metro.html").read_text(encoding="utf-8").split("<main>")
    styles = "".join(f".card-{n}{{margin:{n}px;color:#123456}}" for n in range(size // 100))
    links = "".join(
        f'<li class="card card-{n}"><a href="/city/{n}"><img src="/i/{n}.jpg" alt="Picture {n}" '
        f'loading="lazy"></a><p class="teaser">What happened on day {n}, in short.</p></li>\n'
        for n in range(size // 250)
    )
    style = f"<style>{styles}</style>"[: max(0, size // 3)]
    page = head.replace("</head>", f"{style}</style></head>") + "<main>" + links + body
    return page[:size] if size > len(head) else page


def cpu_ms(html: str) -> float:
    """Return the CPU time of reading a page, in milliseconds."""
    times = []
    for _ in range(_ROUNDS):
        started = time.thread_time()
        extract(html, "https://www.northportcourier.example/city/")
        times.append(time.thread_time() - started)
    return statistics.median(times) * 1000


def main() -> None:
    """Print the figures."""
    results = list(comparisons())
    for field in dict.fromkeys(result.field for result in results):
        of_field = [result for result in results if result.field == field]
        share = 100 * sum(result.agrees for result in of_field) / len(of_field)
        target = f"target {TARGETS[field]} %" if field in TARGETS else ""
        print(f"{field:15}{share:6.1f} % of {len(of_field)} pages  {target}")  # noqa: T201
    for result in results:
        if not result.agrees:
            print(f"  {result.page}: {result.field} is {result.found!r}, not {result.expected!r}")  # noqa: T201
    for name, size in SIZES.items():
        print(f"{name:15}{cpu_ms(a_page(size)):8.2f} ms of CPU")  # noqa: T201


if __name__ == "__main__":
    main()
