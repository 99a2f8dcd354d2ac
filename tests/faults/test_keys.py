"""API keys while the database is away."""

import time
from collections.abc import Callable

import pytest

from app.keys import Scope
from tests.command_line import pagemeta
from tests.deployed_keys import (
    REQUIRED,
    REVOKED_WITHIN_SECONDS,
    make_key,
    status,
    unknown_key,
)
from tests.faults.test_database_faults import die, stall
from tests.keys import bearer
from tests.plain_http import CLIENT
from tests.service import Service, eventually


@pytest.mark.parametrize("hurt", [die, stall])
def test_known_keys_work_while_the_database_is_away(
    fragile: Service, hurt: Callable[[Service], Callable[[], object]]
) -> None:
    api = fragile.api(**REQUIRED).start()
    key = make_key(fragile, "shop", Scope.METRICS, Scope.WRITE)
    new = make_key(fragile, "never sent", Scope.METRICS)
    assert status(api, key) == 200
    eventually(lambda: status(api, new), lambda code: code == 200, within=5)
    repair = hurt(fragile)
    try:
        api.wait_for_event("db_unavailable")
        for _ in range(5):
            began = time.monotonic()
            assert status(api, key) == 200
            assert status(api, unknown_key()) == 503
            assert status(api, f"{key[:-64]}{'0' * 64}") == 401
            assert time.monotonic() - began < 2
        body = {"url": "http://example.com/"}
        answer = CLIENT.post(f"{api.url}/metadata", json=body, headers=bearer(key))
        assert answer.status_code == 202
    finally:
        repair()
    eventually(lambda: status(api, unknown_key()), lambda code: code == 401, within=30)
    pagemeta(fragile, "keys", "revoke", "shop")
    eventually(lambda: status(api, key), lambda code: code == 401, within=REVOKED_WITHIN_SECONDS)
