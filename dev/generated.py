"""Generated files that are checked in: write them, or check that they are up to date."""

import sys
from pathlib import Path

from dev.stack import ROOT


def write_or_check(files: dict[Path, str], *, recipe: str) -> None:
    """Write the files; with `--check` only compare, and end with 1 if one differs."""
    if "--check" not in sys.argv[1:]:
        for path, text in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    elif stale := [str(path.relative_to(ROOT)) for path in out_of_step(files)]:
        sys.exit(f"Out of date: {', '.join(stale)}. Run `just {recipe}`.")


def out_of_step(files: dict[Path, str]) -> list[Path]:
    """Return the files that are missing or have another text."""
    return [path for path, text in files.items() if not path.exists() or path.read_text() != text]
