"""How `pagemeta` shows pages: texts that strangers wrote reach the terminal as plain text."""

from datetime import UTC, datetime, timedelta

import pytest

from app.cli.showing import show_answers, show_list, show_page

DOCUMENT = {
    "title": "A [bold]title[/bold]\x1b[31m\nof \u202etwo lines",
    "description": "word " * 200,
    "site_name": "Example",
    "image": {"url": "http://a.test/image.png", "alt": None},
    "language": "en",
}
PAGE = {"status": "COMPLETED", "url": "http://a.test/", "metadata": {"document": DOCUMENT}}


def rows(printed: str) -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in printed.splitlines())
    return {name: text.rstrip() for name, text in lines}


def test_a_page_begins_with_a_preview(capsys: pytest.CaptureFixture[str]) -> None:
    show_page(PAGE)
    shown = rows(capsys.readouterr().out)
    assert list(shown)[:5] == ["title", "description", "site", "image", "language"]
    assert shown["title"] == "A [bold]title[/bold] [31m of two lines"
    assert shown["image"] == "http://a.test/image.png"
    assert len(shown["description"]) == 300
    assert shown["description"].endswith("…")


@pytest.mark.parametrize("metadata", [None, {"document": None}, {}])
def test_a_page_without_document_has_no_preview(
    capsys: pytest.CaptureFixture[str], metadata: object
) -> None:
    show_page({**PAGE, "metadata": metadata})
    assert rows(capsys.readouterr().out) == {"url": "http://a.test/", "status": "COMPLETED"}


def test_many_pages_that_ended_well_are_only_counted(capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"status": "ERROR", "url": "http://[::1]/", "error": {"message": "[red] no"}}
    pages = [{"status": "COMPLETED", "url": f"http://a.test/{n}"} for n in range(21)]
    show_answers([*pages, failed], {"COMPLETED"})
    assert capsys.readouterr().out.split() == [
        *("ERROR", "http://[::1]/", "[red]", "no"),
        *("21", "COMPLETED,", "1", "ERROR"),
    ]


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_listed_page(ago: timedelta, **fields: object) -> dict[str, object]:
    return {"url": "http://a.test/", "created_at": (NOON - ago).isoformat(), **fields}


def test_a_list_has_a_line_for_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"status_code": 200, "body_bytes": 12_345, "document": {"title": "A title"}}
    failed = {**metadata, "status_code": 503, "body_bytes": 0, "document": None}
    pages = [
        a_listed_page(timedelta(seconds=-2), status="QUEUED"),
        a_listed_page(timedelta(minutes=59, seconds=59), status="COMPLETED", metadata=metadata),
        a_listed_page(timedelta(days=3, hours=23), status="FAILED_PERMANENT", metadata=failed),
    ]
    show_list(pages, NOON, headings=True)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["status", "HTTP", "size", "age", "page"],
        ["QUEUED", "0s", "http://a.test/"],
        ["COMPLETED", "200", "12.3", "kB", "59m", "A", "title"],
        ["FAILED_PERMANENT", "503", "0", "bytes", "3d", "http://a.test/"],
    ]


def test_parts_of_a_list_are_like_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_list([a_listed_page(timedelta(hours=2), status="QUEUED")], NOON, headings=True)
    shown = [a_listed_page(timedelta(0), status="FAILED_RETRYABLE", metadata={"body_bytes": 999})]
    show_list(shown, NOON, headings=False)
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.index("page") == first.index("http:") == second.index("http:")


def test_a_listed_page_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    titled = {"metadata": {"document": DOCUMENT}, "status": "[red]\x1b[2JNEW"}
    show_list([a_listed_page(timedelta(0), **titled)], NOON, headings=False)
    shown = capsys.readouterr().out
    assert shown.split(maxsplit=2)[0] == "[red]"
    assert "A [bold]title[/bold] [31m of two lines" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
