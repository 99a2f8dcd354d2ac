"""The AsyncAPI documents of both processes."""

import json
from typing import Any

import pytest
import yaml
from dirty_equals import IsPartialDict, IsStr
from faststream.rabbit import RabbitBroker
from jsonschema import Draft7Validator, FormatChecker

from app import __version__
from app.api.application import create_app as create_api
from app.assembly import assemble
from app.broker.messages import MetadataRequested
from app.broker.topology import Topology
from app.contract.documents import Documents, as_yaml, worker_specification
from app.runtime.settings import Settings
from app.urls import canonical_url
from app.worker.application import create_app as create_worker
from tests.fakes import a_request

DELAYS = ("5s", "30s", "2m", "10m")


@pytest.fixture
def with_password() -> Settings:
    url = "amqps://user:secret@broker.example:5671/vhost?heartbeat=5"
    return Settings(_env_file=None, broker_url=url, broker_queue_name="pages.requests")


@pytest.fixture
def topology(with_password: Settings) -> Topology:
    return assemble(with_password, service_name="test").topology


@pytest.fixture
def documents(with_password: Settings) -> Documents:
    documents: Documents = create_api(with_password).state.documents
    return documents


@pytest.fixture
def api(documents: Documents) -> Any:
    return documents.api


@pytest.fixture
def worker(documents: Documents) -> Any:
    return documents.worker


@pytest.fixture(params=["api", "worker"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def queue_of(document: Any, operation: Any) -> str:
    address: str = document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]["address"]
    return address


def operations(document: Any) -> set[tuple[str, str, str]]:
    return {
        (name, operation["action"], queue_of(document, operation))
        for name, operation in document["operations"].items()
    }


def test_a_document_says_what_it_is(either: Any) -> None:
    assert either == IsPartialDict(
        asyncapi="3.0.0",
        id=IsStr(regex="urn:page-metadata:(api|worker)"),
        info=IsPartialDict(
            title=IsStr(regex="Page metadata (API|worker)"),
            version=__version__,
            license={"name": "MIT", "url": "https://opensource.org/license/mit"},
        ),
        defaultContentType="application/json",
    )
    assert "contact" not in either["info"]


def test_the_api_sends_requests_and_nothing_else(api: Any) -> None:
    assert operations(api) == {("requestMetadata", "send", "pages.requests")}


def test_the_worker_receives_requests_and_retries_and_sends_retries_and_dead_letters(
    worker: Any,
) -> None:
    assert operations(worker) == {
        ("collectMetadata", "receive", "pages.requests"),
        ("collectMetadataAgain", "receive", "pages.retries"),
        *((f"retryIn{delay}", "send", f"pages.retry.{delay}") for delay in DELAYS),
        ("rejectMessage", "send", "pages.dead"),
    }


def test_channels_and_messages_have_names_a_person_would_choose(worker: Any) -> None:
    assert list(worker["channels"]) == [
        "requests",
        "retries",
        *(f"retriesIn{delay}" for delay in DELAYS),
        "deadLetters",
    ]
    assert list(worker["components"]["messages"]) == [
        "MetadataRequested",
        "MetadataRequestedAgain",
        "DeadLetter",
    ]
    titles = {field["title"] for field in fields(worker).values()}
    assert titles == {"Page URL", "Request ID", "Time of the request", "Attempt"}


def test_both_documents_say_the_same_of_what_they_share(api: Any, worker: Any) -> None:
    for part in ("servers", "defaultContentType"):
        assert api[part] == worker[part]
    assert api["channels"].items() <= worker["channels"].items()
    messages = worker["components"]["messages"]
    assert api["components"]["messages"].items() <= messages.items()
    assert api["components"]["schemas"] == worker["components"]["schemas"]


def test_the_api_shows_the_document_of_the_worker_as_a_worker_has_it(
    worker: Any, with_password: Settings, topology: Topology
) -> None:
    broker = create_worker(with_password).broker
    assert isinstance(broker, RabbitBroker)
    assert worker == worker_specification(broker, topology)


def test_every_part_is_introduced_to_a_person(worker: Any) -> None:
    parts = [
        *worker["channels"].values(),
        *worker["operations"].values(),
        *worker["components"]["messages"].values(),
    ]
    known = {tag["name"] for tag in worker["info"]["tags"]}
    for part in parts:
        assert part["title"]
        assert part["summary"].endswith(".")
        assert part["description"]
        assert "{" not in part["title"] + part["summary"] + part["description"]
        assert {tag["name"] for tag in part["tags"]} <= known


def test_each_queue_has_the_type_and_arguments_that_are_declared(
    worker: Any, topology: Topology
) -> None:
    channels = {channel["address"]: channel for channel in worker["channels"].values()}
    assert set(channels) == {queue.name for queue in topology}
    for queue in topology:
        binding = channels[queue.name]["bindings"]["amqp"]
        assert binding["is"] == "queue"
        assert binding["queue"] == {
            "name": queue.name,
            "durable": queue.durable,
            "exclusive": queue.exclusive,
            "autoDelete": queue.auto_delete,
            "vhost": "/vhost",
        }
        assert binding["x-queue-arguments"] == queue.arguments


def test_a_person_reads_every_argument_in_the_description(worker: Any, topology: Topology) -> None:
    channels = {channel["address"]: channel for channel in worker["channels"].values()}
    for queue in topology:
        for name, value in (queue.arguments or {}).items():
            shown = f"`{value}`" if value != "" else "(empty)"
            assert f"| `{name}` | {shown} | " in channels[queue.name]["description"]


def test_what_is_sent_is_said_to_be_persistent_mandatory_and_timed(worker: Any) -> None:
    sends = [it for name, it in worker["operations"].items() if name.startswith("retryIn")]
    expected = {"deliveryMode": 2, "mandatory": True, "timestamp": True, "bindingVersion": "0.3.0"}
    assert [it["bindings"]["amqp"] for it in sends] == [expected] * len(DELAYS)


def test_a_dead_letter_is_sent_as_it_was(worker: Any) -> None:
    binding = worker["operations"]["rejectMessage"]["bindings"]["amqp"]
    assert binding == {"bindingVersion": "0.3.0"}


def test_what_is_received_is_said_to_be_acknowledged(worker: Any) -> None:
    binding = worker["operations"]["collectMetadata"]["bindings"]["amqp"]
    assert binding == {"ack": True, "bindingVersion": "0.3.0"}


def fields(document: Any) -> dict[str, Any]:
    (schema,) = document["components"]["schemas"].values()
    properties: dict[str, Any] = schema["properties"]
    return properties


def test_the_payload_has_every_field_described_with_an_example(either: Any) -> None:
    (schema,) = either["components"]["schemas"].values()
    assert list(schema["properties"]) == list(MetadataRequested.model_fields)
    assert schema["required"] == ["url", "request_id", "requested_at"]
    for field in schema["properties"].values():
        assert field["description"]
        for example in field["examples"]:
            Draft7Validator(field, format_checker=FormatChecker()).validate(example)


def test_a_message_names_its_properties(either: Any) -> None:
    message = either["components"]["messages"]["MetadataRequested"]
    described = message["x-amqp-properties"]["properties"]
    for name in ("message_id", "correlation_id", "type", "content_type"):
        assert described[name]["description"]
        assert f"| `{name}` | " in message["description"]
    assert message["contentType"] == "application/json"
    assert message["bindings"]["amqp"]["messageType"] == "MetadataRequested"
    assert message["correlationId"]["location"] == "$message.payload#/request_id"


def test_every_example_fits_its_message(worker: Any) -> None:
    for message in worker["components"]["messages"].values():
        assert message["examples"]
        for example in message["examples"]:
            validator(worker, message["payload"]).validate(example["payload"])
            validator(worker, message.get("headers", {})).validate(example.get("headers", {}))


def validator(document: Any, schema: Any) -> Draft7Validator:
    whole = {**schema, "components": document["components"]}
    return Draft7Validator(whole, format_checker=FormatChecker())


@pytest.mark.parametrize(
    "url",
    [
        "HTTP://Example.com",
        "https://example.com:8443?a=b#c",
        "https://bücher.example/ü",
        "https://[::1]:8080/x",
        "https://a_b.example./",
        "https://example.com/{a}|\\%zz?[b]",
    ],
)
def test_every_url_that_is_taken_fits_once_it_is_canonical(worker: Any, url: str) -> None:
    schema = {"$ref": "#/components/schemas/MetadataRequested"}
    body = MetadataRequested.from_request(a_request(canonical_url(url))).model_dump_json()
    validator(worker, schema).validate(json.loads(body))


@pytest.mark.parametrize(
    "url",
    ["example.com", "ftp://example.com/", "https://example.com", "https://a/#b", "https://u@a/"],
)
def test_a_url_that_is_not_canonical_does_not_fit(worker: Any, url: str) -> None:
    assert not Draft7Validator(fields(worker)["url"]).is_valid(url)


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


def test_the_text_of_a_document_is_the_document(either: Any) -> None:
    text = as_yaml(either)
    assert yaml.safe_load(text) == either
    assert "\\n" not in text
    assert "&id" not in text
