"""How `pagemeta` shows pages: texts that strangers wrote reach the terminal as plain text."""

import pytest

from app.cli.showing import show_answers, show_page

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
