"""How good `metadata.document` is, and what it costs: `python -m bench.extraction`.

It compares the pages of `tests/corpus/` with the values that people expect of them, and prints the
agreement for each field. Then it prints the CPU time of reading one page, ordinary or hostile, and
for how long that holds the event loop of a worker.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.extractor.document import extract
from app.models import Document, Header, PageImage, PageMetadata, Validators
from app.worker.extraction import ExtractingFetcher
from bench.holds import LoopWatch

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
_ROUNDS, _FEW_ROUNDS = 15, 3


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
    """Return a news page of about `size` characters, a third of them before its body.

    Its text is not all ASCII, and does not repeat itself as a small one may.
    """
    head, body = (CORPUS / "news-metro.html").read_text(encoding="utf-8").split("<main>")
    styles = "".join(f".card-{n}{{margin:{n}px;color:#123456}}" for n in range(size // 100))
    style = f"<style>{styles}</style>"[: max(0, size // 3)]
    page = head.replace("</head>", f"{style}</style></head>") + "<main>" + _cards(size) + body
    return page[:size] if size > len(head) else page


def _cards(size: int) -> str:
    chance = random.Random(0)  # noqa: S311 (the same page in each run)
    words = ["".join(chance.choices("aeiounrstdlmäéß", k=7)) for _ in range(2000)]
    return "".join(
        f'<li class="card card-{n}"><a href="/city/{n}"><img src="/i/{n}.jpg" alt="Picture {n}" '
        f'loading="lazy"></a><p class="teaser">{" ".join(chance.choices(words, k=20))}</p></li>\n'
        for n in range(size // 250)
    )


HOSTILE = {
    "<": "<",
    "NULs": "\0",
    "&": "&",
    "tags": "<b>",
    "nested elements": "<div>",
    "lists": "<ul><li>",
    "attributes": "<p a ",
    "metas": '<meta property="og:image" content="a">',
    "links": '<link rel=alternate hreflang=de href="/x">',
    "JSON-LD": '<script type="application/ld+json">[[{"@type":"Article","name":"x"}]]</script>',
    "comments": "<!--",
    "bylines": "<p class=byline>",
    "titles": "<title>&amp;",
    "images": "<img src=a>",
}
"""What a page of strangers may consist of, over and over."""


class _Given:
    """A fetcher that returns one page."""

    def __init__(self, html: str) -> None:
        self._html = html

    async def fetch(self, _url: str, _validators: Validators | None) -> PageMetadata:
        return replace(_FETCHED, page_source=self._html)


_FETCHED = PageMetadata(
    final_url="https://www.northportcourier.example/city/",
    status_code=200,
    http_version="HTTP/1.1",
    headers=(),
    cookies=(),
    page_source=None,
    page_source_truncated=False,
    content_type="text/html",
    charset="utf-8",
    body_bytes=0,
    body_sha256="",
    redirects=(),
    remote_address=None,
    elapsed_ms=0,
    fetched_at=datetime.now(UTC),
)


async def longest_hold_ms(html: str) -> float:
    """Return for how long reading a page, as a worker does, holds the event loop at most."""
    watch = LoopWatch()
    watching = asyncio.create_task(watch.watch())
    await asyncio.sleep(0.02)
    await ExtractingFetcher(_Given(html)).fetch("", None)
    await asyncio.sleep(0.02)
    watching.cancel()
    return watch.longest_seconds * 1000


def cpu_ms(html: str) -> float:
    """Return the CPU time of reading a page, in milliseconds."""
    times = []
    for _ in range(_ROUNDS if len(html) < SIZES["5 MB"] // 2 else _FEW_ROUNDS):
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
    print(f"\n{'page':32}{'CPU':>11}{'longest hold':>15}")  # noqa: T201
    for name, page in _pages():
        cpu, hold = cpu_ms(page), asyncio.run(longest_hold_ms(page))
        print(f"{name:32}{cpu:8.2f} ms{hold:12.1f} ms")  # noqa: T201


def _pages() -> Iterator[tuple[str, str]]:
    for name, size in SIZES.items():
        yield f"{name}, as pages are", a_page(size)
    for name, size in list(SIZES.items())[1:]:
        for what, piece in HOSTILE.items():
            yield f"{name} of {what}", piece * (size // len(piece))


if __name__ == "__main__":
    main()
