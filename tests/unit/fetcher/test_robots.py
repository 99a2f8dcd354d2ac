import asyncio
import time
import tracemalloc

import httpx
import pytest

from app.errors import FetchError
from app.fetcher import robots
from app.fetcher.robots import Robots, parse_robots_txt
from app.models import ErrorKind

DISALLOW_ALL = "User-agent: *\nDisallow: /\n"


class Hosts:
    """Hosts with a robots.txt each, and a note of who was asked for it."""

    def __init__(self, status: int = 200, text: str = "") -> None:
        self.status, self.text = status, text
        self.failure: FetchError | None = None
        self.asked: list[str] = []

    async def __call__(self, url: str) -> tuple[int, str]:
        self.asked.append(url)
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        return self.status, self.text


def rules(hosts: Hosts) -> Robots:
    return Robots("Page-Metadata/1.0 (+https://example.com/bot)", hosts)


async def check(robots: Robots, url: str = "https://a.test/private/x?y=1") -> None:
    await robots.check(httpx.URL(url))


async def refusal(robots: Robots, url: str = "https://a.test/private/x?y=1") -> FetchError:
    with pytest.raises(FetchError) as caught:
        await check(robots, url)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        DISALLOW_ALL,
        "user-agent: page-metadata\ndisallow: /private",
        "User-Agent: PAGE-METADATA # us\nDisallow: /*x?y=",
        "User-agent: other\nUser-agent: page-metadata\nDisallow: /private/x?y=1$",
        "\ufeffUser-agent: *\r\nDisallow: /\r\n".lstrip("\ufeff"),
    ],
)
async def test_a_page_that_robots_txt_disallows_is_not_fetched_for_good(text: str) -> None:
    error = await refusal(rules(Hosts(text=text)))
    assert (error.kind, error.retryable) == (ErrorKind.ROBOTS, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "User-agent: *\nDisallow:\n",
        "User-agent: other\nDisallow: /\n",
        "User-agent: page\nDisallow: /\n",
        "User-agent: *\nDisallow: /\n\nUser-agent: page-metadata\nAllow: /private\n",
        "User-agent: *\nDisallow: /\nAllow: /private/\n",
        "<html>not a robots.txt</html>",
    ],
)
async def test_a_page_that_robots_txt_allows_is_fetched(text: str) -> None:
    await check(rules(Hosts(text=text)))


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 304])
async def test_a_robots_txt_that_is_not_there_allows_everything(status: int) -> None:
    await check(rules(Hosts(status, DISALLOW_ALL)))


@pytest.mark.parametrize("status", [500, 503, 599])
async def test_while_a_server_fails_nothing_is_allowed_for_now(status: int) -> None:
    error = await refusal(rules(Hosts(status)))
    assert (error.kind, error.retryable) == (ErrorKind.ROBOTS, True)


async def test_a_robots_txt_that_leads_nowhere_allows_everything() -> None:
    hosts = Hosts()
    hosts.failure = FetchError(ErrorKind.TOO_MANY_REDIRECTS, "round and round", retryable=False)
    await check(rules(hosts))


@pytest.mark.parametrize(("kind", "retryable"), [(ErrorKind.DNS, False), (ErrorKind.CONNECT, True)])
async def test_where_robots_txt_cannot_be_had_the_page_fails_for_the_same_reason(
    kind: ErrorKind, *, retryable: bool
) -> None:
    hosts = Hosts()
    hosts.failure = FetchError(kind, "gone", retryable=retryable)
    error = await refusal(rules(hosts))

    assert (error.kind, error.message, error.retryable) == (kind, "gone", retryable)


async def test_while_one_page_asks_a_host_the_others_wait_for_the_answer() -> None:
    hosts = Hosts(text="User-agent: *\nDisallow: /private")
    robots = rules(hosts)
    pages = (check(robots, f"https://a.test/{number}") for number in range(10))
    await asyncio.gather(*pages)

    assert hosts.asked == ["https://a.test/robots.txt"]


async def test_once_a_host_has_answered_it_is_not_asked_again() -> None:
    hosts = Hosts(text="User-agent: *\nDisallow: /private")
    robots = rules(hosts)
    await asyncio.gather(check(robots, "https://a.test/1"))
    await asyncio.gather(*(check(robots, f"https://a.test/{number}") for number in range(10)))
    await refusal(robots)

    assert hosts.asked == ["https://a.test/robots.txt"]


async def test_a_failure_is_remembered_for_the_pages_that_come_next() -> None:
    hosts = Hosts(503)
    robots = rules(hosts)
    for number in range(10):
        await refusal(robots, f"https://a.test/{number}")

    assert len(hosts.asked) == 1


async def test_a_host_that_was_not_asked_to_the_end_is_asked_again() -> None:
    hosts = Hosts(text=DISALLOW_ALL)
    robots = rules(hosts)
    asking = asyncio.create_task(check(robots))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await refusal(robots)

    assert len(hosts.asked) == 2


async def test_every_scheme_host_and_port_has_a_robots_txt_of_its_own() -> None:
    hosts = Hosts()
    robots = rules(hosts)
    for url in ("http://a.test/x", "https://a.test/x", "https://a.test:8443/x", "https://b.test/"):
        await check(robots, url)

    assert hosts.asked == [
        "http://a.test/robots.txt",
        "https://a.test/robots.txt",
        "https://a.test:8443/robots.txt",
        "https://b.test/robots.txt",
    ]


async def test_an_answer_is_asked_for_again_when_it_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = Hosts()
    robots_ = rules(hosts)
    await check(robots_)
    hosts.text = DISALLOW_ALL
    await check(robots_)

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + robots.CACHE_SECONDS + 1)
    await refusal(robots_)


async def test_no_more_answers_are_kept_than_there_is_room_for() -> None:
    hosts = Hosts(text="#" * (robots.CACHE_CHARACTERS // 4))
    robots_ = rules(hosts)
    for name in "abcdea":
        await check(robots_, f"https://{name}.test/")

    assert hosts.asked.count("https://a.test/robots.txt") == 2
    assert hosts.asked.count("https://e.test/robots.txt") == 1


@pytest.mark.parametrize("agent", ["user-agent:a{}", "user agent a{}", "useragent: page-*{}"])
def test_a_hostile_file_does_not_use_up_the_memory(agent: str) -> None:
    agents = "\n".join(agent.format(i) for i in range(15_000))
    text = f"{agents}\n" + "Disallow:/x\n" * 20_000
    tracemalloc.start()
    try:
        parse_robots_txt(text[: robots.MAX_ROBOTS_BYTES], "page-metadata")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 50_000_000
