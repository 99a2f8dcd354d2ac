"""Small, compressed and conditional reads, as they are on the network and in the database."""

import gzip
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dev.stack import Api
from tests.integration.test_api_bounds import large, store_page
from tests.service import Service

SIZE = 5_000_000
SMALL = "http://example.com/small"


@pytest.fixture(scope="module")
def stocked(shared_service: Service) -> Api:
    api = shared_service.api().start()
    store_page(shared_service, large(0), "x" * SIZE)
    store_page(shared_service, SMALL, "<p>" * 1000)
    return api


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    plain = {"Accept-Encoding": "identity"}
    with httpx.Client(trust_env=False, timeout=30, headers=plain) as client:
        yield client


def largest_reply(service: Service) -> int:
    """Return the size of the largest reply to a query for pages since the profile began."""
    database = service.pages.database
    finds = database["system.profile"].find({"ns": service.pages.full_name, "op": "query"})
    return max(int(find["responseLength"]) for find in finds)


def profile(service: Service) -> None:
    """Have the database note each of its commands from here on."""
    database = service.pages.database
    database.command("profile", 0)
    database["system.profile"].drop()
    database.command("profile", 2)


def test_what_is_not_asked_for_is_not_read_from_the_database(
    shared_service: Service, stocked: Api, client: httpx.Client
) -> None:
    query = {"url": large(0)}
    source = client.get(f"{stocked.url}/metadata/source", params=query)
    assert source.content == b"x" * SIZE
    whole = client.get(f"{stocked.url}/metadata", params=query)
    profile(shared_service)
    some = client.get(f"{stocked.url}/metadata", params={**query, "fields": "status_code,headers"})
    assert set(some.json()["metadata"]) == {"status_code", "headers"}
    for path, answer in (("/metadata", whole), ("/metadata/source", source)):
        known = {"If-None-Match": answer.headers["etag"]}
        again = client.get(f"{stocked.url}{path}", params=query, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert client.head(f"{stocked.url}{path}", params=query).status_code == 200
    assert largest_reply(shared_service) < 2000


def test_a_304_is_given_by_each_process_for_the_tag_of_another(
    shared_service: Service, stocked: Api, client: httpx.Client
) -> None:
    other = shared_service.api().start()
    tag = client.get(f"{stocked.url}/metadata", params={"url": SMALL}).headers["etag"]
    answer = client.get(
        f"{other.url}/metadata", params={"url": SMALL}, headers={"If-None-Match": tag}
    )
    assert answer.status_code == 304


@pytest.mark.parametrize("path", ["/metadata", "/metadata/source"])
@pytest.mark.parametrize("url", [large(0), SMALL])
def test_head_sends_no_body_and_304_neither(stocked: Api, path: str, url: str) -> None:
    target = f"{path}?url={quote(url, safe='')}"
    with socket.create_connection(("127.0.0.1", stocked.port), timeout=10) as connection:
        for more in ("", "Accept-Encoding: gzip\r\n", "If-None-Match: *\r\n"):
            head = f"HEAD {target} HTTP/1.1\r\nHost: api\r\n{more}\r\n"
            connection.sendall(head.encode())
            answer = connection.recv(65_536)
            assert answer.endswith(b"\r\n\r\n")
            assert answer.count(b"\r\n\r\n") == 1
            assert b" 304 " in answer if "None" in more else b" 200 " in answer
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: api\r\nIf-None-Match: *\r\n\r\n".encode()
        )
        assert connection.recv(65_536).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/metadata", "/metadata/source"])
@pytest.mark.parametrize("url", [large(0), SMALL])
def test_a_compressed_answer_is_the_same_answer(
    stocked: Api, client: httpx.Client, path: str, url: str
) -> None:
    def read(coding: str) -> tuple[httpx.Response, bytes]:
        headers: dict[str, Any] = {"Accept-Encoding": coding}
        with client.stream(
            "GET", f"{stocked.url}{path}", params={"url": url}, headers=headers
        ) as answer:
            return answer, b"".join(answer.iter_raw())

    (plain, body), (zipped, compressed) = read("identity"), read("gzip")
    assert gzip.decompress(compressed) == body
    assert len(compressed) < len(body) / 3
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.headers["etag"] != plain.headers["etag"]
