"""API keys: every route against every kind of key, and whoever tries to get in another way."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from time import monotonic

import httpx
import pytest
from dirty_equals import IsPartialDict
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from app.api import __main__ as starting
from app.api.access import OPEN_PATHS, KeyedRoute, check_rules
from app.api.application import create_app
from app.api.gate import MAX_PAUSING, Gate
from app.api.known_keys import MAX_ASKING, PAUSE_SECONDS, KnownKeys
from app.api.limits import AddressLimit, KeyLimits, network_of
from app.errors import StoreUnavailable
from app.keys import KEY, Scope, hash_of, new_secret, without_keys
from app.models import Claim, Delivery
from app.runtime.metrics import REGISTRY
from app.runtime.settings import Settings
from app.services import Inventory
from tests.fakes import URL, FakePages, FakePublisher, a_page, a_request
from tests.keys import FakeKeys, bearer, id_of
from tests.unit.recorded import Log

ALL_SCOPES = tuple(Scope)


@pytest.fixture
def kept() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
async def known(kept: FakeKeys) -> AsyncIterator[KnownKeys]:
    """Keys that are read again soon where somebody asks, as most tests do."""
    known = KnownKeys(kept.all, kept.note_uses, refresh_seconds=0.5, pause_seconds=0.01)
    async with known.kept_fresh():
        yield known


@pytest.fixture
async def paced(kept: FakeKeys) -> AsyncIterator[KnownKeys]:
    """Keys that are read as often as a process reads them."""
    known = KnownKeys(kept.all, kept.note_uses)
    async with known.kept_fresh():
        yield known


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def pages() -> FakePages:
    return FakePages()


@pytest.fixture
def app(
    default_api: FastAPI, known: KnownKeys, publisher: FakePublisher, pages: FakePages
) -> FastAPI:
    """The API as it is with `API_AUTH=required`, which is told by its state alone."""
    state = default_api.state
    state.key_required = True
    state.gate = Gate(keys=known, address_limit=None, pause_seconds=0)
    state.inventory = Inventory(publisher=publisher, pages=pages)
    state.connection = state.database = Ready()
    return default_api


class Ready:
    def why_not_ready(self) -> str | None:
        return "nothing is connected in this test"


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


# --- Every route, every kind of key ---


def routes() -> Iterator[tuple[str, str, Scope | None]]:
    """Each method and path that the application serves, with the scope that it needs."""
    for route in iter_route_contexts(create_app(Settings(_env_file=None)).routes):
        original = route.original_route
        needed = original.needed if isinstance(original, KeyedRoute) else None
        for method in sorted(route.methods or {"GET"}):
            yield method, str(route.path), needed


ROUTES = list(routes())
KEYED = [(method, path, needed) for method, path, needed in ROUTES if needed]
OPEN = [(method, path) for method, path, needed in ROUTES if not needed]
REFUSED = {401, 403}


async def called(
    client: httpx.AsyncClient, method: str, path: str, key: str | None
) -> httpx.Response:
    filled = path.replace("{request_id}", "6f2b6a3e-0f0c-4f57-9a51-0d5c3f3f2f11")
    return await client.request(
        method,
        filled,
        params={"url": URL} if method != "POST" else None,
        json={"url": URL} if method == "POST" else None,
        headers=bearer(key) if key else None,
    )


def test_the_rules_are_these() -> None:
    assert {(path, needed) for _, path, needed in KEYED} == {
        ("/metadata", Scope.READ),
        ("/metadata", Scope.WRITE),
        ("/metadata", Scope.DELETE),
        ("/metadata/source", Scope.READ),
        ("/metadata/requests/{request_id}", Scope.READ),
        ("/metadata/pages", Scope.READ),
        ("/metadata/batch", Scope.WRITE),
        ("/metrics", Scope.METRICS),
    }
    assert {path for _, path in OPEN} == {
        *("/health/live", "/health/ready", "/", "/inventory", "/docs", "/redoc", "/redoc/redoc.js"),
        *("/asyncapi", "/asyncapi.yaml", "/asyncapi.json"),
        *("/asyncapi/worker", "/asyncapi/worker.yaml", "/asyncapi/worker.json"),
        *OPEN_PATHS,
    }


@pytest.mark.parametrize(("method", "path"), OPEN)
async def test_a_page_for_people_needs_no_key(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    for key in (None, "wrong"):
        assert (await called(client, method, path, key)).status_code not in REFUSED


def wrong_keys(kept: FakeKeys) -> dict[str, str | None]:
    """Keys that get nobody in, by what is wrong with them."""
    right = kept.add(*ALL_SCOPES)
    other = kept.add(*ALL_SCOPES)
    return {
        "none": None,
        "no key at all": "secret",
        "unknown": f"pm_0123456789ab_{new_secret()}",
        "revoked": kept.add(*ALL_SCOPES, revoked=True),
        "wrong secret": f"pm_{id_of(right)}_{new_secret()}",
        "secret of another": f"pm_{id_of(right)}_{other.rpartition('_')[2]}",
        "upper case": right.upper(),
        "secret in upper case": right[:16] + right[16:].upper(),
        "cut off": right[:-1],
        "one more letter": f"{right}0",
        "the hash": f"pm_{id_of(right)}_{kept.kept[id_of(right)].secret_hash.hex()}",
    }


@pytest.mark.parametrize(("method", "path", "needed"), KEYED)
async def test_a_wrong_key_opens_nothing(
    client: httpx.AsyncClient, kept: FakeKeys, method: str, path: str, needed: Scope
) -> None:
    del needed
    details = set()
    for name, key in wrong_keys(kept).items():
        answer = await called(client, method, path, key)
        assert answer.status_code == 401, name
        challenge = 'Bearer realm="page-metadata"' + (
            "" if key is None else ', error="invalid_token"'
        )
        assert answer.headers["www-authenticate"] == challenge
        if method != "HEAD" and key:
            details.add(answer.json()["detail"])
    # One answer to all: it does not tell which ids there are.
    assert len(details) <= 1


@pytest.mark.parametrize(("method", "path", "needed"), KEYED)
async def test_a_key_opens_what_its_scopes_permit_and_no_more(
    client: httpx.AsyncClient, kept: FakeKeys, method: str, path: str, needed: Scope
) -> None:
    for scope in Scope:
        answer = await called(client, method, path, kept.add(scope))
        if scope is needed:
            assert answer.status_code not in REFUSED
        else:
            assert answer.status_code == 403
            assert answer.headers["www-authenticate"].endswith(
                f'error="insufficient_scope", scope="{needed}"'
            )
    everything_else = [scope for scope in Scope if scope is not needed]
    answer = await called(client, method, path, kept.add(*everything_else))
    assert answer.status_code == 403


def test_a_route_without_a_rule_cannot_be_made() -> None:
    router = APIRouter(route_class=KeyedRoute)

    async def endpoint() -> None: ...

    with pytest.raises(TypeError, match=r"/new says neither @needs"):
        router.add_api_route("/new", endpoint)


def test_an_application_with_a_route_of_another_kind_does_not_start(app: FastAPI) -> None:
    check_rules(app)

    @app.get("/new")
    async def endpoint() -> None: ...

    with pytest.raises(TypeError, match="/new is no KeyedRoute"):
        check_rules(app)


def test_the_routes_of_an_application_are_checked_when_it_is_built(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.access.OPEN_PATHS", {"/static"})
    with pytest.raises(TypeError, match=r"/openapi\.json is no KeyedRoute"):
        create_app(settings)


# --- What a scope means ---


async def store(pages: FakePages) -> None:
    claim = await pages.claim(Delivery(a_request(), redelivered=False), lease_seconds=60)
    assert isinstance(claim, Claim)
    await pages.complete(claim, a_page())


async def test_a_key_that_only_reads_queues_nothing(
    client: httpx.AsyncClient, kept: FakeKeys, publisher: FakePublisher
) -> None:
    reading, both = kept.add(Scope.READ), kept.add(Scope.READ, Scope.WRITE)
    answer = await client.get("/metadata", params={"url": URL}, headers=bearer(reading))
    assert (answer.status_code, answer.json()["type"]) == (
        404,
        "urn:page-metadata:problem:unknown-page",
    )
    assert publisher.published == []
    answer = await client.get("/metadata", params={"url": URL}, headers=bearer(both))
    assert answer.status_code == 202
    assert len(publisher.published) == 1


async def test_a_key_that_only_reads_has_no_old_result_refreshed(
    client: httpx.AsyncClient, kept: FakeKeys, publisher: FakePublisher, pages: FakePages
) -> None:
    await store(pages)
    ask: dict[str, str | int] = {"url": URL, "max_age": 0}
    answer = await client.get("/metadata", params=ask, headers=bearer(kept.add(Scope.READ)))
    assert (answer.status_code, answer.json()["stale"]) == (200, True)
    assert publisher.published == []
    both = kept.add(Scope.READ, Scope.WRITE)
    await client.get("/metadata", params=ask, headers=bearer(both))
    assert len(publisher.published) == 1


async def test_a_key_that_only_writes_is_shown_no_metadata(
    client: httpx.AsyncClient, kept: FakeKeys, pages: FakePages
) -> None:
    await store(pages)
    ask = {"url": URL, "max_age": 3600}
    answer = await client.post("/metadata", json=ask, headers=bearer(kept.add(Scope.WRITE)))
    assert (answer.status_code, answer.json()["metadata"]) == (200, {})
    both = kept.add(Scope.READ, Scope.WRITE)
    answer = await client.post("/metadata", json=ask, headers=bearer(both))
    assert answer.json()["metadata"]["status_code"] == 200


# --- Headers that are not as they should be ---


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR  "])
async def test_the_scheme_is_read_in_any_case(
    client: httpx.AsyncClient, kept: FakeKeys, scheme: str
) -> None:
    headers = {"aUTHORIZATION": f"{scheme} {kept.add(Scope.METRICS)}"}
    assert (await client.get("/metadata/source?url=x", headers=headers)).status_code == 403


@pytest.mark.parametrize("header", ["Basic cG06cG0=", "", "pm_0123456789ab_0", "BearerX pm_1_2"])
async def test_another_scheme_is_told_what_to_send(client: httpx.AsyncClient, header: str) -> None:
    answer = await client.get("/metadata", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["detail"]) == (
        401,
        "the Authorization header does not begin with Bearer",
    )


async def test_two_headers_are_refused_even_if_both_are_right(
    client: httpx.AsyncClient, kept: FakeKeys
) -> None:
    header = ("Authorization", f"Bearer {kept.add(*ALL_SCOPES)}")
    answer = await client.get("/metadata", headers=[header, header])
    assert (answer.status_code, answer.json()["type"]) == (
        400,
        "urn:page-metadata:problem:bad-authorization",
    )


@pytest.mark.parametrize("letter", [" ", "a", "\t"])
async def test_a_header_that_is_too_long_is_refused_unread(
    client: httpx.AsyncClient, letter: str
) -> None:
    header = f"Bearer {letter * 60_000}x"
    answer = await client.get("/metadata", headers={"Authorization": header})
    assert (answer.status_code, letter * 10 in answer.text) == (400, False)


@pytest.mark.parametrize("encoded", ["é", "\x80", "pm_²123456789ab_0"])
async def test_a_header_that_is_no_ascii_is_an_invalid_key(
    client: httpx.AsyncClient, encoded: str
) -> None:
    headers = [(b"authorization", f"Bearer {encoded}".encode())]
    assert (await client.get("/metadata", headers=headers)).status_code == 401


# --- Keys in URLs, and in what is kept ---


@pytest.mark.parametrize("auth", ["off", "required"])
@pytest.mark.parametrize(
    "target",
    ["/metadata?url=x&key={}", "/metadata?access_token={}", "/metadata?{}", "/{}", "/docs?key={}"],
)
async def test_a_key_in_the_url_is_refused_and_blotted_out(
    default_api: FastAPI, kept: FakeKeys, log: Log, auth: str, target: str
) -> None:
    if auth == "required":
        known = KnownKeys(kept.all, kept.note_uses)
        default_api.state.gate = Gate(keys=known, address_limit=None)
    key = kept.add(*ALL_SCOPES)
    transport = httpx.ASGITransport(default_api)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.get(target.format(key), headers=bearer(key))
    assert (answer.status_code, answer.json()["type"]) == (
        400,
        "urn:page-metadata:problem:key-in-url",
    )
    assert "Authorization: Bearer" in answer.json()["detail"]
    blotted = f"pm_{id_of(key)}_REDACTED"
    assert log.one("request_answered")["target"] == target.format(blotted)


@pytest.mark.parametrize(
    ("text", "blotted"),
    [
        (f"a pm_0123456789ab_{64 * 'a'} b", "a pm_0123456789ab_REDACTED b"),
        (f"PM_0123456789AB_{64 * 'A'}", "PM_0123456789AB_REDACTED"),
        (f"pm_0123456789ab_{30 * 'a'}", "pm_0123456789ab_REDACTED"),
        (2 * f"pm_0123456789ab_{64 * '0'};", 2 * "pm_0123456789ab_REDACTED;"),
        ("pm_0123456789ab_x", "pm_0123456789ab_x"),
        ("spam_", "spam_"),
    ],
)
def test_of_the_keys_in_a_text_only_the_ids_are_left(text: str, blotted: str) -> None:
    assert without_keys(text) == blotted


async def test_a_page_whose_url_only_resembles_a_key_is_taken(
    client: httpx.AsyncClient, kept: FakeKeys
) -> None:
    for end in ("pm_0123456789ab_x", "pm_hello_world", "pm_", "spam_0123456789ab"):
        answer = await client.get(
            "/metadata",
            params={"url": f"https://example.com/{end}"},
            headers=bearer(kept.add(Scope.READ, Scope.WRITE)),
        )
        assert answer.status_code == 202


async def test_nothing_of_a_key_is_logged_or_answered_but_its_id(
    client: httpx.AsyncClient, kept: FakeKeys, pages: FakePages, log: Log
) -> None:
    pages.failing = ZeroDivisionError  # so that there is a traceback too
    for method, path, needed in KEYED:
        for key in (kept.add(needed), f"pm_0123456789ab_{new_secret()}"):
            answer = await called(client, method, path, key)
            secret = key.rpartition("_")[2]
            assert secret not in f"{answer.text}{answer.headers}{log.everything}"
            assert log.all("request_answered")[-1]["key_id"] == id_of(key)
    assert "ZeroDivisionError" in log.everything


async def test_a_line_about_a_request_without_a_key_names_none(
    client: httpx.AsyncClient, log: Log
) -> None:
    await client.get("/metadata")
    assert "key_id" not in log.one("request_answered")


# --- Rotation ---


async def test_a_former_secret_is_good_while_it_is_kept(
    client: httpx.AsyncClient, kept: FakeKeys
) -> None:
    former = f"pm_0123456789ab_{new_secret()}"
    key = kept.add(Scope.METRICS, former=former)
    with_former_secret = f"pm_{id_of(key)}_{former.rpartition('_')[2]}"
    for good in (key, with_former_secret):
        assert (await called(client, "GET", "/metadata/source", good)).status_code == 403


def test_secrets_are_random_and_written_as_they_are_read() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert KEY.fullmatch(f"pm_0123456789ab_{secret}".encode())
        assert len(hash_of(secret.encode())) == 32


def test_every_comparison_of_secrets_takes_constant_time(
    kept: FakeKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("app.keys.compare_digest", compare)
    key = kept.add(*ALL_SCOPES)
    (it,) = kept.kept.values()
    for secret in (key.rpartition("_")[2].encode(), b"wrong"):
        compared.clear()
        it.accepts(secret)
        # As many comparisons whether a secret is right or wrong, and of hashes alone.
        assert compared == 2 * [(hash_of(secret), it.secret_hash)]


# --- The keys that a process knows ---


async def until_answered(client: httpx.AsyncClient, key: str, status: int) -> None:
    async with asyncio.timeout(5):
        while (await called(client, "GET", "/metadata/source", key)).status_code != status:  # noqa: ASYNC110 (nobody is told when)
            await asyncio.sleep(0.05)


async def test_a_known_key_costs_no_query(
    client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys
) -> None:
    key = kept.add(Scope.METRICS)
    await known.look_up(id_of(key))
    readings = kept.readings
    for _ in range(50):
        await called(client, "GET", "/metadata/source", key)
    assert kept.readings - readings <= 1  # the one that is due


async def test_a_new_key_works_at_once(client: httpx.AsyncClient, kept: FakeKeys) -> None:
    async with asyncio.timeout(0.45):  # less than the time between two readings that are due
        answer = await called(client, "GET", "/metadata/source", kept.add(Scope.METRICS))
    assert answer.status_code == 403


@pytest.mark.parametrize("name", ["wrong secret", "secret of another", "revoked", "cut off"])
async def test_a_wrong_key_that_the_process_does_not_know_yet_opens_nothing(
    client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys, name: str
) -> None:
    wrong = wrong_keys(kept)[name]
    assert wrong
    assert known.get(id_of(wrong)) is None
    assert (await called(client, "GET", "/metrics", wrong)).status_code == 401


async def test_a_revoked_key_ends_with_the_next_reading(
    client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys
) -> None:
    key = kept.add(Scope.METRICS)
    await known.look_up(id_of(key))
    del kept.kept[id_of(key)]
    await until_answered(client, key, 401)


@pytest.mark.parametrize("error", [StoreUnavailable("no server"), ZeroDivisionError()])
async def test_known_keys_work_while_the_database_is_away_and_others_are_told_so(
    client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys, error: Exception
) -> None:
    key = kept.add(Scope.METRICS)
    await known.look_up(id_of(key))
    kept.failing = lambda: error
    unknown = kept.add(Scope.METRICS)
    # The first one waits for a reading, which fails; the second is told at once.
    for _ in range(2):
        async with asyncio.timeout(5):
            answer = await called(client, "GET", "/metadata/source", unknown)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (await called(client, "GET", "/metadata/source", key)).status_code == 403
    kept.failing = None
    await until_answered(client, unknown, 403)


async def test_a_flood_of_unknown_keys_shares_a_reading(
    app: FastAPI, client: httpx.AsyncClient, kept: FakeKeys, paced: KnownKeys
) -> None:
    app.state.gate = Gate(keys=paced, address_limit=None, pause_seconds=0)
    began, readings = monotonic(), kept.readings
    strangers = [f"pm_{number:012x}_{new_secret()}" for number in range(300)]
    answers = await asyncio.gather(
        *(called(client, "GET", "/metadata/source", key) for key in strangers)
    )
    assert {it.status_code for it in answers} == {401}
    assert kept.readings - readings <= (monotonic() - began) / PAUSE_SECONDS + 1


async def test_strangers_one_after_the_other_wait_for_a_reading_each(
    kept: FakeKeys, paced: KnownKeys
) -> None:
    began, readings = monotonic(), kept.readings
    for number in range(4):
        assert await paced.look_up(f"{number:012x}") is None
    assert kept.readings - readings <= (monotonic() - began) / PAUSE_SECONDS + 1


async def test_more_unknown_keys_than_may_wait_are_refused_at_once(
    client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys
) -> None:
    waiting = [asyncio.create_task(known.look_up(f"{n:012x}")) for n in range(MAX_ASKING)]
    await asyncio.sleep(0)
    answer = await called(client, "GET", "/metadata/source", kept.add(Scope.READ))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert await asyncio.gather(*waiting) == MAX_ASKING * [None]


async def test_uses_are_counted_and_written_later_if_the_database_is_away(
    client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys, log: Log
) -> None:
    key = kept.add(Scope.METRICS)
    await known.look_up(id_of(key))
    kept.failing = lambda: StoreUnavailable("no server")
    for _ in range(3):
        await called(client, "GET", "/metadata/source", key)
    async with asyncio.timeout(5):
        while not log.all("key_uses_not_written"):  # noqa: ASYNC110 (a log has no events)
            await asyncio.sleep(0.05)
    kept.failing = None
    async with asyncio.timeout(5):
        while kept.uses != {id_of(key): 3}:  # noqa: ASYNC110 (a fake has no events)
            await asyncio.sleep(0.05)


async def test_a_database_that_does_not_answer_keeps_no_reading_waiting_for_ever(
    kept: FakeKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.known_keys.READ_SECONDS", 0.05)
    known = KnownKeys(kept.all, kept.note_uses, refresh_seconds=0.1, pause_seconds=0.01)
    monkeypatch.setattr("app.api.known_keys.LONGEST_PAUSE_SECONDS", 0.05)
    async with known.kept_fresh():
        kept.answers.clear()
        with pytest.raises(StoreUnavailable):
            await known.look_up("0123456789ab")
        kept.answers.set()
        key = kept.add(Scope.READ)
        async with asyncio.timeout(5):
            while known.get(id_of(key)) is None:  # noqa: ASYNC110 (a fake has no events)
                await asyncio.sleep(0.01)


async def test_uses_that_take_long_to_write_keep_no_reading_waiting(kept: FakeKeys) -> None:
    key = kept.add(Scope.READ)

    writing, written = asyncio.Event(), asyncio.Event()

    async def write_slowly(_uses: object) -> None:
        writing.set()
        await written.wait()

    known = KnownKeys(kept.all, write_slowly, refresh_seconds=0.01, pause_seconds=0.01)
    async with known.kept_fresh(), asyncio.timeout(5):
        found = known.get(id_of(key))
        assert found
        known.note_use(found)
        await writing.wait()
        new = kept.add(Scope.READ)
        while known.get(id_of(new)) is None:  # noqa: ASYNC110 (a fake has no events)
            await asyncio.sleep(0.01)
        written.set()


async def test_what_was_counted_is_written_when_the_process_stops(kept: FakeKeys) -> None:
    key = kept.add(Scope.READ)
    known = KnownKeys(kept.all, kept.note_uses)
    async with known.kept_fresh():
        found = known.get(id_of(key))
        assert found
        known.note_use(found)
        asking = asyncio.create_task(known.look_up("0123456789ab"))
        await asyncio.sleep(0)
    assert kept.uses == {id_of(key): 1}
    with pytest.raises(StoreUnavailable):
        await asking


async def test_a_process_without_keys_says_so(kept: FakeKeys, log: Log) -> None:
    async with KnownKeys(kept.all, kept.note_uses).kept_fresh():
        assert log.one("api_has_no_keys")["level"] == "WARNING"


# --- Limits ---


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the limits count by the one number in this list, so that no minute ends in a test."""
    seconds = [600.0]
    monkeypatch.setattr("throttled.utils.now_sec", lambda: int(seconds[0]))
    monkeypatch.setattr("throttled.utils.now_ms", lambda: int(seconds[0] * 1000))
    return seconds


async def test_a_key_has_its_limit_and_others_keep_theirs(
    client: httpx.AsyncClient, kept: FakeKeys
) -> None:
    key = kept.add(Scope.METRICS, requests_per_minute=3)
    answers = [await called(client, "GET", "/metadata/source", key) for _ in range(4)]
    assert [it.status_code for it in answers] == [403, 403, 403, 429]
    assert [it.headers["ratelimit"] for it in answers[:3]] == [
        f'"key";r={left};t=60' for left in (2, 1, 0)
    ]
    refused = answers[3]
    assert {it.headers["ratelimit-policy"] for it in answers} == {'"key";q=3;w=60'}
    wait = refused.headers["retry-after"]
    assert 1 <= int(wait) <= 60
    assert refused.headers["ratelimit"] == f'"key";r=0;t={wait}'
    assert refused.json() == IsPartialDict(
        type="urn:page-metadata:problem:too-many-requests",
        detail="this key may send 3 requests a minute to one process",
    )
    other = kept.add(Scope.METRICS, requests_per_minute=3)
    assert (await called(client, "GET", "/metadata/source", other)).status_code == 403


async def test_a_key_without_a_limit_has_no_headers_about_one(
    client: httpx.AsyncClient, kept: FakeKeys
) -> None:
    answer = await called(client, "GET", "/metadata/source", kept.add(Scope.METRICS))
    assert not {"ratelimit", "ratelimit-policy"} & answer.headers.keys()


@pytest.mark.parametrize("status", [202, 304, 400, 404])
async def test_every_answer_tells_what_is_left(
    client: httpx.AsyncClient, kept: FakeKeys, pages: FakePages, status: int
) -> None:
    headers = bearer(kept.add(Scope.READ, Scope.WRITE, requests_per_minute=100))
    await store(pages)
    tag = (await client.get("/metadata", params={"url": URL}, headers=headers)).headers["etag"]
    answer = {
        202: await client.get("/metadata", params={"url": URL + "new"}, headers=headers),
        304: await client.get(
            "/metadata", params={"url": URL}, headers=headers | {"If-None-Match": tag}
        ),
        400: await client.get("/metadata", headers=headers),
        404: await client.get("/metadata/source", params={"url": URL + "no"}, headers=headers),
    }[status]
    assert answer.status_code == status
    assert re.fullmatch(r'"key";r=9\d;t=60', answer.headers["ratelimit"])


async def test_an_address_has_its_limit_where_nobody_needs_a_key(
    settings: Settings, pages: FakePages, publisher: FakePublisher
) -> None:
    app = create_app(settings.model_copy(update={"api_requests_per_minute": 2}))
    app.state.inventory = Inventory(publisher=publisher, pages=pages)
    for address in ("10.0.0.1", "10.0.0.2"):
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = [await client.get("/metadata", params={"url": URL}) for _ in range(3)]
            assert [it.status_code for it in answers] == [202, 202, 429]
            assert answers[0].headers["ratelimit-policy"] == '"address";q=2;w=60'
            assert (await client.get("/health/live")).status_code == 200


async def test_strangers_over_the_limit_cause_no_query_and_key_holders_beside_them_go_on(
    app: FastAPI, client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys
) -> None:
    app.state.gate = Gate(keys=known, address_limit=AddressLimit(3), pause_seconds=0)
    key = kept.add(Scope.METRICS)
    await known.look_up(id_of(key))
    wrong = [None, "nothing", f"{key[:-4]}ffff"]
    answers = [await called(client, "GET", "/metadata/source", it) for it in wrong]
    assert [it.status_code for it in answers] == [401, 401, 401]
    readings = kept.readings
    for number in range(20):
        stranger = f"pm_{number:012x}_{new_secret()}"
        assert (await called(client, "GET", "/metadata/source", stranger)).status_code == 429
    assert kept.readings - readings <= 1  # the one that is due
    assert (await called(client, "GET", "/metadata/source", key)).status_code == 403


def seconds_counted() -> float:
    metric = "page_metadata_http_request_seconds_sum"
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == metric
    )


async def test_strangers_wait_to_be_refused_and_key_holders_do_not(
    app: FastAPI, client: httpx.AsyncClient, kept: FakeKeys, known: KnownKeys
) -> None:
    key = kept.add(Scope.METRICS)
    await known.look_up(id_of(key))
    app.state.gate = Gate(keys=known, address_limit=None, pause_seconds=0.2)
    before = seconds_counted()
    for sent, status, waits in ((None, 401, True), ("no key", 401, True), (key, 403, False)):
        began = monotonic()
        assert (await called(client, "GET", "/metadata/source", sent)).status_code == status
        assert (monotonic() - began >= 0.2) == waits
    assert seconds_counted() - before < 0.2  # the pauses say nothing of how fast the service is


async def test_more_strangers_than_may_wait_are_refused_at_once(
    app: FastAPI, client: httpx.AsyncClient, known: KnownKeys
) -> None:
    app.state.gate = gate = Gate(keys=known, address_limit=None, pause_seconds=60)
    waiting = [
        asyncio.create_task(gate.admit({"headers": []}, Scope.READ)) for _ in range(MAX_PAUSING)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert (await called(client, "GET", "/metadata/source", None)).status_code == 401
    for it in waiting:
        it.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_limits_forget_the_addresses_not_seen_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.limits.MAX_ADDRESSES", 10)
    limit = AddressLimit(1)
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(1000)]
    assert not any(limit.spend(it).retry_after_seconds for it in addresses)
    # The last one is remembered. The first one is not, though it has just been over its limit too.
    assert limit.spend(addresses[-1]).retry_after_seconds > 0
    assert limit.spend(addresses[0]).retry_after_seconds == 0


def test_what_was_spent_in_the_minute_before_counts_for_its_share(seconds: list[float]) -> None:
    limit = AddressLimit(10)
    assert within(limit, 12) == 10
    seconds[0] += 60.5  # it is rounded down: 9 of the 10 still count
    assert within(limit, 12) == 1
    seconds[0] += 29.5  # 5 of the 10 count, and the one of this minute
    assert within(limit, 12) == 4


def within(limit: AddressLimit, requests: int) -> int:
    """Spend requests of one address; return how many of them were within its limit."""
    spent = [limit.spend("192.0.2.1") for _ in range(requests)]
    return sum(it.retry_after_seconds == 0 for it in spent)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_the_addresses_of_one_network_count_as_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_key_whose_limit_is_changed_is_counted_by_the_new_one() -> None:
    limits = KeyLimits()
    assert limits.spend("a", 0) is None
    spent = [limits.spend("a", 1), limits.spend("a", 1), limits.spend("a", 1000)]
    assert [it.retry_after_seconds > 0 for it in spent if it] == [False, True, False]


# --- Who may use it, said at start ---


@pytest.mark.parametrize(
    ("auth", "host", "warns"),
    [
        ("off", "0.0.0.0", True),
        ("off", "::", True),
        ("off", "192.0.2.1", True),
        ("off", "api.internal", True),
        ("off", "127.0.0.1", False),
        ("off", "::1", False),
        ("off", "localhost", False),
        ("required", "0.0.0.0", False),
    ],
)
def test_an_api_that_is_open_to_anyone_says_so(
    settings: Settings, log: Log, auth: str, host: str, *, warns: bool
) -> None:
    app = create_app(settings.model_copy(update={"api_auth": auth}))
    starting.warn_if_open(app, host)
    warnings = log.all("api_open_to_anyone")
    assert [(it["level"], it["host"]) for it in warnings] == ([("WARNING", host)] if warns else [])
