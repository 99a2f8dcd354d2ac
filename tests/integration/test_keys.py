"""API keys on real servers: made by `pagemeta keys`, and asked for by API processes."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import pytest
from dirty_equals import IsDatetime, IsPartialDict, IsStr
from fastapi.routing import iter_route_contexts

from app.api.access import KeyedRoute
from app.api.application import create_app
from app.keys import KEY, Scope
from app.runtime.settings import Settings
from app.store.mongo import KEY_COLLECTION
from dev.stack import Api
from tests.clocks import a_clock
from tests.command_line import pagemeta
from tests.deployed_keys import (
    REQUIRED,
    REVOKED_WITHIN_SECONDS,
    make_key,
    status,
    unknown_key,
)
from tests.keys import bearer, id_of
from tests.plain_http import CLIENT
from tests.service import Service, eventually
from tests.site import Site


def listed(service: Service, *options: str) -> Any:
    return json.loads(pagemeta(service, "keys", "list", "--json", *options).stdout)


# --- `pagemeta keys` ---


def test_a_key_is_shown_once_and_only_its_hash_is_kept(service: Service) -> None:
    made = pagemeta(service, "keys", "create", "shop", "--scope", "read", "--scope", "write")
    key = made.stdout.strip()
    assert KEY.fullmatch(key.encode())
    assert made.stderr == f"Key {id_of(key)} of shop, shown only now:\n"
    (kept,) = service.pages.database[KEY_COLLECTION].find()
    assert kept == IsPartialDict(_id=id_of(key), name="shop", scopes=["read", "write"])
    secret = key.rpartition("_")[2]
    assert secret not in repr(kept) + pagemeta(service, "keys", "list").stdout
    assert listed(service) == [
        {
            "id": id_of(key),
            "name": "shop",
            "scopes": ["read", "write"],
            "requests_per_minute": 600,
            "active": True,
            "created_at": IsDatetime(iso_string=True),
            **dict.fromkeys(("rotated_at", "former_secret_until", "revoked_at", "last_used_at")),
            "uses": 0,
        }
    ]


def test_the_list_for_people_has_a_row_for_each_key(service: Service) -> None:
    key = make_key(service, "[bold]shop[/]", Scope.READ, per_minute=0)
    other = make_key(service, "other", Scope.METRICS, Scope.DELETE, per_minute=5)
    pagemeta(service, "keys", "rotate", id_of(other))
    rows = pagemeta(service, "keys", "list").stdout.splitlines()
    assert rows[0].split() == [
        *("name", "id", "scopes", "a", "minute", "uses", "last", "used", "created", "state")
    ]
    assert rows[1].split()[:6] == ["[bold]shop[/]", id_of(key), "read", "any", "0", "never"]
    assert rows[1].split()[-1] == "active"
    assert rows[2].split()[:6] == ["other", id_of(other), "delete", "metrics", "5", "0"]
    assert "former secret until" in rows[2]
    pagemeta(service, "keys", "revoke", "other")
    assert "other" not in pagemeta(service, "keys", "list").stdout
    assert "revoked 20" in pagemeta(service, "keys", "list", "--all").stdout


def test_two_keys_cannot_have_one_name_unless_the_first_is_revoked(service: Service) -> None:
    make_key(service, "shop", Scope.READ)
    again = pagemeta(service, "keys", "create", "shop", "--scope", "read")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "there is a key with the name shop already" in again.stderr
    revoked = pagemeta(service, "keys", "revoke", "shop", "--json")
    assert json.loads(revoked.stdout) == IsPartialDict(name="shop", active=False)
    make_key(service, "shop", Scope.READ)
    assert [it["active"] for it in listed(service, "--all")] == [False, True]


def test_a_first_key_is_made_once_and_not_again_when_it_was_revoked(service: Service) -> None:
    create = ("keys", "create", "first", "--scope", "read", "--once", "--json")
    made = json.loads(pagemeta(service, *create).stdout)
    assert made == {"id": IsStr, "name": "first", "key": IsStr(regex=KEY.pattern.decode())}
    for _ in range(2):
        again = pagemeta(service, *create)
        assert (again.exit_code, again.stdout) == (0, "")
        assert "none is made" in again.stderr
        pagemeta(service, "keys", "revoke", "first")
    assert len(listed(service, "--all")) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("revoke", "nobody"), "there is no key with the name or id nobody"),
        (("rotate", "nobody"), "there is no key with the name or id nobody"),
        (("create", "x", "--scope", "admin"), "admin"),
        (("create", "x"), "--scope"),
        (("create", "", "--scope", "read"), "1 to 100 characters"),
        (("create", "a\nb", "--scope", "read"), "1 to 100 characters"),
        (("create", "x", "--scope", "read", "--requests-per-minute", "-1"), "Invalid value"),
    ],
)
def test_what_cannot_be_done_is_told(
    service: Service, arguments: tuple[str, ...], complaint: str
) -> None:
    ran = pagemeta(service, "keys", *arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert complaint in ran.stderr


# --- The API ---


def keyed_routes() -> Iterator[tuple[str, str, Scope]]:
    """Each method and path of the application that needs a key, with the scope."""
    for route in iter_route_contexts(create_app(Settings(_env_file=None)).routes):
        original = route.original_route
        if isinstance(original, KeyedRoute) and original.needed:
            for method in sorted(original.methods or ()):
                yield method, original.path, original.needed


def test_every_route_takes_the_keys_that_it_should(service: Service, site: Site) -> None:
    api = service.api(**REQUIRED).start()
    keys = {scope: make_key(service, scope.value, scope) for scope in Scope}
    revoked = make_key(service, "revoked", *Scope)
    pagemeta(service, "keys", "revoke", "revoked")
    refused = [
        None,
        revoked,
        unknown_key(),
        keys[Scope.READ][:-1],
        f"{keys[Scope.READ][:-64]}{'0' * 64}",
    ]

    def call(method: str, path: str, key: str | None) -> int:
        headers = bearer(key) if key else None
        target = path.replace("{request_id}", "6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11")
        url = site.url("/page")
        body = {"urls": [url]} if path.endswith("/batch") else {"url": url}
        with_body = method == "POST"
        return CLIENT.request(
            method,
            f"{api.url}{target}",
            headers=headers,
            params=None if with_body else {"url": url},
            json=body if with_body else None,
        ).status_code

    table = list(keyed_routes())
    assert len(table) > 5
    for method, path, needed in table:
        with ThreadPoolExecutor(len(refused)) as pool:  # each waits for its answer
            codes = list(pool.map(call, repeat(method), repeat(path), refused))
        assert codes == [401] * len(refused), path
        answered = {scope: call(method, path, key) for scope, key in keys.items()}
        assert {scope for scope, code in answered.items() if code != 403} == {needed}, path
        assert answered[needed] in {200, 202, 204, 207, 404}, path
    # All that while a page was asked for twice, alone and in a batch, by the key that may.
    assert len(api.events("publish_success")) == 2


def test_a_new_key_works_at_once_and_a_revoked_one_ends_soon_in_every_process(
    service: Service,
) -> None:
    apis = [service.api(**REQUIRED).launch() for _ in range(2)]
    for api in apis:
        api.wait_until_ready()
        assert api.events("api_has_no_keys")
    key, other = (make_key(service, name, Scope.METRICS) for name in ("one", "other"))
    for api in apis:
        began = time.monotonic()
        assert [status(api, it) for it in (key, other)] == [200, 200]
        assert time.monotonic() - began < 2
    pagemeta(service, "keys", "revoke", "one")
    rotated = pagemeta(service, "keys", "rotate", "other", "--keep-hours", "0").stdout.strip()
    for api in apis:
        for gone in (key, other):
            eventually(
                lambda api=api, gone=gone: status(api, gone),  # type: ignore[misc]  # a loop's variables
                lambda code: code == 401,
                within=REVOKED_WITHIN_SECONDS,
            )
        assert status(api, rotated) == 200


def test_the_former_secret_is_good_until_its_time_is_over(service: Service) -> None:
    api = service.api(**REQUIRED).start()
    key = make_key(service, "shop", Scope.METRICS)
    assert status(api, key) == 200
    # 8 seconds: long enough for a process to read the keys in between.
    rotated = pagemeta(service, "keys", "rotate", "shop", "--keep-hours", str(8 / 3600))
    new = rotated.stdout.strip()
    eventually(lambda: status(api, new), lambda code: code == 200, within=6)
    assert status(api, key) == 200
    eventually(lambda: status(api, key), lambda code: code == 401, within=8 + 10)
    assert status(api, new) == 200


def test_uses_are_counted_over_all_processes(service: Service) -> None:
    apis = [service.api(**REQUIRED).start() for _ in range(2)]
    key = make_key(service, "shop", Scope.METRICS)
    for api in apis:
        for _ in range(5):
            assert status(api, key) == 200
        assert status(api, key, "/metadata?url=http://example.com/") == 403
    (used,) = eventually(lambda: listed(service), lambda keys: keys[0]["uses"] == 12)
    assert used["last_used_at"] == IsDatetime(iso_string=True)
    assert apis[0].events("request_answered", key_id=id_of(key), status_code=403)


def test_nothing_of_a_key_but_its_id_is_in_the_log(service: Service) -> None:
    api = service.api(**REQUIRED, LOG_LEVEL="TRACE").start()
    key, wrong = make_key(service, "shop", *Scope), unknown_key()
    for it in (key, wrong, key.upper()):
        for path in ("/metrics", "/metadata?url=x", f"/metadata?url=x&key={it}", f"/{it}"):
            status(api, it, path)
    log = api.log.read_text()
    assert id_of(key) in log
    for it in (key, wrong):
        secret = it.rpartition("_")[2]
        assert secret[:24] not in log
        assert secret[-24:] not in log


def test_commands_send_the_key_of_the_environment(service: Service, site: Site) -> None:
    api = service.api(**REQUIRED).start()
    url, at = site.url("/page"), ("--api", api.url)
    without = pagemeta(service, "submit", url, *at, PAGEMETA_KEY="")
    assert without.exit_code == 1
    assert "send a key" in without.stdout
    key = make_key(service, "shop", Scope.READ, Scope.WRITE, per_minute=600)
    assert pagemeta(service, "submit", url, *at, PAGEMETA_KEY=key).exit_code == 0
    got = pagemeta(service, "get", url, "--json", *at, PAGEMETA_KEY=key)
    assert json.loads(got.stdout) == IsPartialDict(status="QUEUED", url=url)


# --- Strangers ---


def queries(api: Api, key: str) -> int:
    """How many times the API has read from the database."""
    metrics = CLIENT.get(f"{api.url}/metrics", headers=bearer(key)).text
    counts = [
        float(line.split()[1])
        for line in metrics.splitlines()
        if line.startswith("page_metadata_database_seconds_count") and 'command="find"' in line
    ]
    return round(sum(counts))


def test_a_flood_of_unknown_keys_causes_few_queries_and_key_holders_go_on(
    service: Service,
) -> None:
    api = service.api(**REQUIRED).start()
    key = make_key(service, "shop", Scope.METRICS)
    before, began = queries(api, key), time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        strangers = [pool.submit(status, api, unknown_key()) for _ in range(240)]
        held = [_timed(api, key) for _ in range(50)]
        assert {it.result() for it in strangers} == {401}
    took = time.monotonic() - began
    # At most one every quarter of a second, and those that are due anyway.
    assert queries(api, key) - before <= 4 * took + 3
    # Every stranger waits a quarter of a second for its answer, a key holder only if the machine is
    # slow. So the quickest of the answers tells.
    assert min(held) < 0.2


def _timed(api: Api, key: str) -> float:
    began = time.monotonic()
    assert status(api, key) == 200
    return time.monotonic() - began


def test_strangers_over_the_limit_of_their_address_are_answered_429(service: Service) -> None:
    # By the clock of this API no minute ends during the test, which would let one more pass.
    full_minute = a_clock("@2026-01-01 12:00:00")
    api = service.api(**REQUIRED, **full_minute, API_REQUESTS_PER_MINUTE="5").start()
    key = make_key(service, "shop", Scope.METRICS)
    assert status(api, key) == 200  # the first time a process sees a key, it is a stranger's
    assert [status(api, unknown_key()) for _ in range(7)] == [401] * 4 + [429] * 3
    assert status(api, key) == 200
