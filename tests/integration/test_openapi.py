"""The running API keeps to its OpenAPI document."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import pagemeta
from tests.service import Service

# A body of over 16 KiB that is wrong in other ways too is refused for its size first.
SCHEMATHESIS = """
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "413"]
"""


@pytest.mark.parametrize("auth", ["off", "required"])
def test_schemathesis_finds_nothing(service: Service, tmp_path: Path, auth: str) -> None:
    # No page is ever fetched here, so nobody is to wait for one.
    api = service.api(API_MAX_WAITERS="0", API_AUTH=auth).start()
    scopes = ("--scope=read", "--scope=write", "--scope=delete")
    permits = (*scopes, "--requests-per-minute", "0")
    key = pagemeta(service, "keys", "create", "schemathesis", *permits).stdout.strip()
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "run", f"{api.url}/openapi.json", "--max-examples=40", "--no-color"]
    if auth == "required":
        command += ["--header", f"Authorization: Bearer {key}"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, check=False, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert "9 selected / 9 total" in done.stdout
    assert api.events("unhandled_error") == []
