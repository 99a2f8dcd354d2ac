"""The AsyncAPI documents of both processes."""

import json
from typing import Any

import pytest
from dirty_equals import IsPartialDict, IsStr
from faststream.rabbit import RabbitBroker
from jsonschema import Draft7Validator

from app import __version__
from app.api.application import create_app as create_api
from app.broker.messages import MetadataRequested
from app.broker.specification import api_specification, worker_specification
from app.settings import Settings
from app.worker.application import create_app as create_worker
from tests.fakes import a_request


@pytest.fixture
def with_password() -> Settings:
    url = "amqps://user:secret@broker.example:5671/vhost?heartbeat=5"
    return Settings(_env_file=None, broker_url=url)


@pytest.fixture
def api(with_password: Settings) -> Any:
    return api_specification(create_api(with_password).state.broker)


@pytest.fixture
def worker(with_password: Settings) -> Any:
    broker = create_worker(with_password).broker
    assert isinstance(broker, RabbitBroker)
    return worker_specification(broker)


@pytest.fixture(params=["api", "worker"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def addresses(document: Any, action: str) -> set[str]:
    return {
        document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]["address"]
        for operation in document["operations"].values()
        if operation["action"] == action
    }


def test_a_document_says_what_it_is(either: Any) -> None:
    assert either == IsPartialDict(
        asyncapi="3.0.0",
        info=IsPartialDict(title=IsStr(regex="Page metadata .+"), version=__version__),
        defaultContentType="application/json",
    )


def test_the_api_sends_requests_and_receives_nothing(api: Any) -> None:
    assert addresses(api, "send") == {"metadata.requests"}
    assert addresses(api, "receive") == set()


def test_the_worker_receives_both_queues_and_sends_to_every_delay(worker: Any) -> None:
    assert addresses(worker, "receive") == {"metadata.requests", "metadata.retries"}
    delays = {f"metadata.retry.{delay}" for delay in ("5s", "30s", "2m", "10m")}
    assert addresses(worker, "send") == delays


def test_channels_have_names_for_people(api: Any, worker: Any) -> None:
    assert set(api["channels"]) == {"RequestMetadata"}
    assert all(name.isalnum() for name in (*api["operations"], *worker["operations"]))


def test_every_message_is_the_request_and_nothing_else(either: Any) -> None:
    payloads = {message["payload"]["$ref"] for message in either["components"]["messages"].values()}
    assert payloads == {"#/components/schemas/MetadataRequested"}


def test_the_schema_has_every_field_described(either: Any) -> None:
    schema = either["components"]["schemas"]["MetadataRequested"]
    assert list(schema["properties"]) == ["url", "request_id", "requested_at", "attempt"]
    assert schema["required"] == ["url", "request_id", "requested_at"]
    assert all(it["description"] for it in schema["properties"].values())


def test_what_is_sent_fits_the_schema(either: Any) -> None:
    schema = either["components"]["schemas"]["MetadataRequested"]
    body = MetadataRequested.from_request(a_request()).model_dump_json()
    for message in (json.loads(body), *schema["examples"]):
        Draft7Validator(schema).validate(message)


def test_every_reference_leads_somewhere(either: Any) -> None:
    for reference in references(either):
        target = either
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]


def references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if "$ref" in node else set()
    return own.union(*map(references, node.values()))


def test_servers_are_named_without_credentials(either: Any) -> None:
    (server,) = either["servers"].values()
    assert server == IsPartialDict(host="broker.example:5671", pathname="/vhost", protocol="amqps")
    assert "secret" not in json.dumps(either)
