from ipaddress import ip_network
from pathlib import Path

import pytest

from app.errors import FetchError
from app.fetcher.client import HttpFetcher
from app.models import ErrorKind
from app.urls import canonical_url

from .conftest import ALLOWED, INSIDE, MakeFetcher, Names, Serve
from .hostile import HostileServer, redirect, replying, response, routing

# What getaddrinfo() and URL parsers take for 127.0.0.2, or for something else that is inside.
LITERALS = [
    "127.0.0.2",
    "127.0.0.2.",
    "2130706434",
    "0x7f000002",
    "0x7F.0.0.2",
    "0177.0.0.2",
    "017700000002",
    "127.2",
    "127.0.2",
    "0x7f.2",
    "00000177.0.0.02",
    "①②⑦.⓪.⓪.②",
    "１２７.０.０.２",  # noqa: RUF001 - full-width digits on purpose
    "127。0。0。2",
    "[::ffff:127.0.0.2]",
    "[::ffff:7f00:2]",
    "[0:0:0:0:0:ffff:7f00:2]",
    "[::127.0.0.2]",
    "[64:ff9b::7f00:2]",
    "[64:ff9b:1::7f00:2]",
    "[2002:7f00:2::]",
    "[::1]",
    "[::]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "0",
    "0.0.0.0",
]
REFUSALS = {ErrorKind.BLOCKED_ADDRESS, ErrorKind.INVALID_RESPONSE, ErrorKind.DNS}


async def refusal(fetcher: HttpFetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(url)
    return caught.value


def assert_blocked(error: FetchError) -> None:
    assert (error.kind, error.retryable) == (ErrorKind.BLOCKED_ADDRESS, False)


def assert_unknown(error: FetchError) -> None:
    """Assert that the host fails like a name that does not exist."""
    said = (error.kind, error.message, error.retryable)
    assert said == (ErrorKind.DNS, "the host name could not be resolved", False)


@pytest.fixture
async def on_any_port(make_fetcher: MakeFetcher, sink: HostileServer) -> HttpFetcher:
    """A fetcher that only the addresses keep from the sink."""
    return await make_fetcher(allowed_ports=frozenset({80, 443, sink.port}))


@pytest.mark.parametrize("host", LITERALS)
async def test_no_spelling_of_an_inside_address_is_reached(
    on_any_port: HttpFetcher, sink: HostileServer, host: str
) -> None:
    error = await refusal(on_any_port, f"http://{host}:{sink.port}/")

    assert error.kind in REFUSALS
    assert not error.retryable
    assert sink.connections == 0


@pytest.mark.parametrize("host", LITERALS)
async def test_no_spelling_of_an_inside_address_is_reached_by_redirect(
    on_any_port: HttpFetcher, sink: HostileServer, serve: Serve, host: str
) -> None:
    server = await serve(replying(redirect(f"http://{host}:{sink.port}/")))
    error = await refusal(on_any_port, server.url())

    assert error.kind in REFUSALS
    assert not error.retryable
    assert (server.connections, sink.connections) == (1, 0)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "2130706434", "127.2", "0177.0.0.2", "①②⑦.⓪.⓪.②", "127。0。0。2"],
)
async def test_the_canonical_form_of_an_inside_address_is_blocked(
    on_any_port: HttpFetcher, sink: HostileServer, host: str
) -> None:
    assert_blocked(await refusal(on_any_port, canonical_url(f"http://{host}:{sink.port}/")))
    assert sink.connections == 0


async def test_this_machine_is_not_reached_by_name_or_address(
    make_fetcher: MakeFetcher, serve: Serve
) -> None:
    server = await serve(replying(response(b"")))
    fetcher = await make_fetcher(allowed_networks=(), allowed_ports=frozenset({server.port}))

    for name in ("localhost", "LOCALHOST", "localhost.", "a.localhost"):
        assert_unknown(await refusal(fetcher, server.url(host=name)))
    assert_blocked(await refusal(fetcher, server.url()))
    assert server.connections == 0


async def test_a_denied_network_is_not_reached_though_it_is_allowed(
    make_fetcher: MakeFetcher, serve: Serve, names: Names
) -> None:
    server = await serve(replying(response(b"")))
    names.answers = {"a.test": [[ALLOWED]]}
    fetcher = await make_fetcher(denied_networks=(ip_network(ALLOWED),), resolve=names)

    assert_blocked(await refusal(fetcher, server.url()))
    assert_unknown(await refusal(fetcher, server.url(host="a.test")))
    assert server.connections == 0


async def test_the_sink_would_answer_if_it_were_called(
    make_fetcher: MakeFetcher, sink: HostileServer
) -> None:
    fetcher = await make_fetcher(allowed_networks=(ip_network(INSIDE),))
    await refusal(fetcher, f"http://2130706434:{sink.port}/")
    assert sink.connections == 1


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "https://127.0.0.2:{port}/",
        "HTTP://127.0.0.2:{port}/",
        "http:\\\\127.0.0.2:{port}/",
        "/\\127.0.0.2:{port}/",
        "http://a@127.0.0.2:{port}/",
        "http://127.0.0.1:80@127.0.0.2:{port}/",
        "http://127.0.0.2:{port}#@127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://127.0.0.2:{port}\t/",
        "http://127.0.0.2 :{port}/",
        "gopher://127.0.0.2:{port}/_x",
        "ftp://127.0.0.2:{port}/",
        "file:///etc/passwd",
        "unix:///run/docker.sock",
        "javascript:alert(1)",
        "data:text/html,hello",
        "ws://127.0.0.2:{port}/",
    ],
)
@pytest.mark.parametrize("status", [b"301 Moved", b"307 Temporary", b"308 Permanent"])
async def test_no_redirect_leads_inside(
    on_any_port: HttpFetcher, sink: HostileServer, serve: Serve, location: str, status: bytes
) -> None:
    page = redirect(location.format(port=sink.port), status=status)
    server = await serve(routing(index=redirect("/again"), again=page))
    try:
        final = await on_any_port.fetch(server.url())
    except FetchError as error:
        assert error.kind in REFUSALS  # noqa: PT017 - one of two good endings
    else:  # what was meant as a host is a path to the same server
        assert final.remote_address == ALLOWED
    assert sink.connections == 0


@pytest.mark.parametrize(
    "addresses", [[INSIDE], [ALLOWED, INSIDE], [INSIDE, ALLOWED], [ALLOWED, "::1"]]
)
async def test_a_name_with_an_address_inside_fails_like_one_that_does_not_exist(
    make_fetcher: MakeFetcher, names: Names, sink: HostileServer, addresses: list[str]
) -> None:
    names.answers = {"evil.test": [addresses]}
    fetcher = await make_fetcher(resolve=names, allowed_ports=frozenset({sink.port}))

    assert_unknown(await refusal(fetcher, sink.url(host="evil.test")))
    assert_unknown(await refusal(fetcher, sink.url(host="nowhere.test")))
    assert sink.connections == 0


async def test_a_name_that_answers_differently_the_second_time_gains_nothing(
    make_fetcher: MakeFetcher, names: Names, serve: Serve, sink: HostileServer
) -> None:
    server = await serve(replying(response(b"hello")))
    names.answers = {"rebinding.test": [[ALLOWED], [INSIDE]]}
    fetcher = await make_fetcher(resolve=names, allowed_ports=frozenset({server.port, sink.port}))
    page = await fetcher.fetch(server.url(host="rebinding.test"))

    assert (page.remote_address, page.page_source) == (ALLOWED, "hello")
    assert names.asked == ["rebinding.test"]
    assert_unknown(await refusal(fetcher, sink.url(host="rebinding.test")))
    assert sink.connections == 0


async def test_each_redirect_is_resolved_and_checked_anew(
    make_fetcher: MakeFetcher, names: Names, serve: Serve, sink: HostileServer
) -> None:
    server = await serve(replying(redirect(f"http://rebinding.test:{sink.port}/")))
    names.answers = {"rebinding.test": [[ALLOWED], [INSIDE]]}
    fetcher = await make_fetcher(resolve=names, allowed_ports=frozenset({sink.port}))

    assert_unknown(await refusal(fetcher, server.url(host="rebinding.test")))
    assert names.asked == ["rebinding.test"] * 2
    assert (server.connections, sink.connections) == (1, 0)


async def test_a_port_that_is_not_allowed_is_not_called(
    make_fetcher: MakeFetcher, names: Names, sink: HostileServer
) -> None:
    names.answers = {"public.test": [["93.184.215.14"]]}
    fetcher = await make_fetcher(resolve=names)
    for url in (sink.url(host="public.test"), "http://93.184.215.14:22/", sink.url()):
        assert_blocked(await refusal(fetcher, url))


async def test_credentials_are_neither_sent_nor_dropped_but_refused(
    fetcher: HttpFetcher, serve: Serve
) -> None:
    server = await serve(replying(response(b"")))
    assert_blocked(await refusal(fetcher, f"http://user:secret@{ALLOWED}:{server.port}/"))
    assert server.connections == 0


async def test_a_proxy_in_the_environment_is_not_used(
    fetcher: HttpFetcher, serve: Serve, sink: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, sink.url())
        monkeypatch.setenv(name.lower(), sink.url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    server = await serve(replying(response(b"hello")))

    assert (await fetcher.fetch(server.url())).page_source == "hello"
    assert sink.connections == 0


async def test_no_password_file_is_read(
    fetcher: HttpFetcher, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {ALLOWED} login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = await serve(replying(response(b"")))
    await fetcher.fetch(server.url())

    assert "authorization" not in server.requests[0].headers


async def test_another_address_is_tried_where_the_first_one_refuses(
    make_fetcher: MakeFetcher, names: Names, serve: Serve
) -> None:
    server = await serve(replying(response(b"hello")))
    names.answers = {"many.test": [["127.0.0.3", "127.0.0.4", ALLOWED]]}
    fetcher = await make_fetcher(resolve=names, allowed_networks=(ip_network("127.0.0.0/8"),))
    page = await fetcher.fetch(server.url(host="many.test"))

    assert (page.remote_address, page.page_source) == (ALLOWED, "hello")
    assert server.requests[0].headers["host"] == f"many.test:{server.port}"
