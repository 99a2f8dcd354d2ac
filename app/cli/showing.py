"""How `submit`, `get` and `list` show pages.

The texts of pages come from strangers: none is read as markup.
"""

from collections import Counter
from collections.abc import Container, Iterable
from datetime import datetime
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from app.cli.terminal import console, print_table

MAX_SHOWN = 20
"""Up to how many pages `submit` shows each one that has ended well."""

MAX_PREVIEW = 300
"""How many characters of a title or description are shown."""

FACTS = (
    *("final_url", "status_code", "content_type", "charset", "body_bytes", "elapsed_ms"),
    *("headers", "cookies"),
)
"""The fields of the metadata that `get` shows if none are asked for."""

SECONDS_OF = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
"""How long a day, an hour, a minute and a second take."""

Answer = dict[str, Any]


def show_answers(answers: list[Answer], good: Container[str]) -> None:
    """Print the pages that did not end well, and all if there are few; then how many ended how."""
    shown = [it for it in answers if it["status"] not in good or len(answers) <= MAX_SHOWN]
    if shown:
        print_table(_table(shown))
    counts = Counter(answer["status"] for answer in answers)
    console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))


def _table(answers: list[Answer]) -> Table:
    has_titles = any(answer.get("title") for answer in answers)
    table = Table(box=None, show_header=has_titles)
    for heading in ("status", "url", *(["title"] if has_titles else []), "reason"):
        table.add_column(heading, overflow="fold")
    for answer in answers:
        title = [Text(one_line(answer.get("title") or ""))] if has_titles else []
        url, reason = Text(visible(answer["url"])), Text(visible(_reason(answer)))
        table.add_row(answer["status"], url, *title, reason)
    return table


def _reason(answer: Answer) -> str:
    error: Answer = answer.get("error") or {}
    return str(error.get("message", ""))


def show_list(pages: Iterable[Answer], now: datetime, *, headings: bool) -> None:
    """Print a line for each page. Columns are as wide in the next such table as in this one."""
    table = Table(box=None, show_header=headings)
    table.add_column("status", min_width=16, no_wrap=True)
    for heading, width in (("HTTP", 4), ("size", 9), ("age", 4)):
        table.add_column(heading, min_width=width, justify="right", no_wrap=True)
    # A column that may wrap is the one that rich makes narrower. What is in it does not wrap.
    table.add_column("page")
    for page in pages:
        table.add_row(*(Text(it, no_wrap=True, overflow="ellipsis") for it in _listed(page, now)))
    print_table(table)


def _listed(page: Answer, now: datetime) -> tuple[str, str, str, str, str]:
    metadata = page.get("metadata") or {}
    size = metadata.get("body_bytes")
    title = one_line((metadata.get("document") or {}).get("title") or "")
    return (
        one_line(page["status"]),
        str(metadata.get("status_code") or ""),
        "" if size is None else decimal(size),
        _age((now - datetime.fromisoformat(page["created_at"])).total_seconds()),
        title or one_line(page["url"]),
    )


def _age(seconds: float) -> str:
    """Return an age in the largest unit of which it has at least one, such as `3h`."""
    fits = (it for it in SECONDS_OF.items() if seconds >= it[1])
    unit, of_unit = next(fits, ("s", 1))
    return f"{max(0, int(seconds / of_unit))}{unit}"


def show_page(page: Answer, fields: Iterable[str] = FACTS) -> None:
    """Print a record as a table: first a preview of the page, then the facts in these fields."""
    metadata = page.get("metadata") or {}
    table = Table(box=None, show_header=False)
    facts = {
        **_preview(metadata.get("document") or {}),
        "url": page["url"],
        "status": page["status"],
        "reason": _reason(page),
        "attempts": page.get("attempts"),
        **{name: _fact(metadata.get(name)) for name in fields if name != "document"},
        "request_id": page.get("request_id"),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            table.add_row(name, Text(visible(str(value))))
    print_table(table)


def _preview(document: Answer) -> Answer:
    """Return what the page says about itself, as far as a link preview would show it."""
    texts = {
        "title": document.get("title"),
        "description": document.get("description"),
        "site": document.get("site_name"),
        "image": (document.get("image") or {}).get("url"),
        "language": document.get("language"),
    }
    return {name: one_line(text) for name, text in texts.items() if text}


def visible(text: str) -> str:
    """Return a text without control characters, which could change what a terminal shows."""
    return "".join(it if it.isprintable() or it in "\n\t" else "\ufffd" for it in text)


def one_line(text: str) -> str:
    """Return a text of a page for the terminal: without line breaks and control characters."""
    printable = "".join(it if it.isprintable() else " " for it in text)
    short = " ".join(printable.split())
    return short if len(short) <= MAX_PREVIEW else f"{short[: MAX_PREVIEW - 1]}…"


def _fact(value: object) -> object:
    """Return a value as a table shows it: of a list, how many items it has."""
    return len(value) or None if isinstance(value, list) else value
