"""Node.js, where it is installed: for what only JavaScript programs can do or show."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Node:
    """The two programs, by their paths."""

    node: str
    npm: str

    def install(self, folder: Path) -> None:
        """Install the packages that `package-lock.json` names, unless they are installed."""
        lock, installed = folder / "package-lock.json", folder / "node_modules" / "installed.lock"
        if installed.exists() and installed.read_bytes() == lock.read_bytes():
            return
        install = [
            self.npm,
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
        subprocess.run(install, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        shutil.copyfile(lock, installed)


def find_node() -> Node | None:
    """Return Node.js and npm, None if one of them is missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    return Node(node, npm) if node and npm else None
