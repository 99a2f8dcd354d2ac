"""`python -m dev.rabbitmq4`: make a Debian with RabbitMQ 4 in the folder that RABBITMQ_FROM names.

Docker Compose starts RabbitMQ 4, and the packages of Debian 12 and Ubuntu 24.04 are older. So
`just matrix` makes a newer Debian, once, from which dev/servers.py runs RabbitMQ.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from dev.servers import (
    RABBITMQ_FROM,
    ServerMissing,
    find_rabbitmq,
    install_packages,
    run_quietly,
)

SUITE = "trixie"  # Debian 13, the first with RabbitMQ 4


def make(folder: Path) -> None:
    """Make the system, which takes some minutes and 400 MB, or leave it as it is."""
    if os.geteuid() != 0:
        raise ServerMissing(
            "`just matrix` has to be run as root. It runs RabbitMQ 4 from a Debian in a folder,"
            " and only root may make such a folder and mount parts of it."
        )
    if folder.exists():
        return
    if shutil.which("debootstrap") is None:
        install_packages("debootstrap", "debian-archive-keyring")
    print(f"Making a Debian with RabbitMQ 4 in {folder}; this takes some minutes", flush=True)
    # It gets its name only once it is complete.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(exist_ok=True)
    run_quietly(*_debootstrap(unfinished), to=f"make a Debian in {unfinished}")
    unfinished.rename(folder)


def _debootstrap(folder: Path) -> list[str]:
    # Debootstrap mounts /proc in the folder. What is mounted under `unshare` is gone when the
    # command ends, in whichever way, so that the folder can be removed.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase"]
    return [*command, "--include=rabbitmq-server", SUITE, str(folder), *_mirror()]


def _mirror() -> list[str]:
    """Return the mirror of Debian that apt uses here; without one, debootstrap has its own."""
    filters = ("Created-By: Packages", "Label: Debian")
    command = ["apt-get", "indextargets", "--format", "$(SITE)", *filters]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[:1]


def main() -> None:
    """Make the system, unless it is there, and say which RabbitMQ it has."""
    try:
        make(Path(os.environ[RABBITMQ_FROM]))
        print(f"RabbitMQ is run from {find_rabbitmq()}", flush=True)
    except ServerMissing as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
