"""The AsyncAPI documents of both processes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from dirty_equals import IsPartialDict, IsStr
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange
from jsonschema import Draft7Validator, FormatChecker

from app import __version__
from app.api.application import create_app as create_api
from app.assembly import assemble
from app.broker.messages import (
    CONTENT_TYPE,
    DEFERRALS_HEADER,
    MESSAGE_TYPE,
    MetadataRequested,
)
from app.broker.topology import Topology
from app.contract.documents import (
    OVERLAY,
    Documents,
    api_specification,
    as_yaml,
    worker_specification,
)
from app.models import EventKind
from app.runtime.settings import Settings
from app.urls import canonical_url
from app.worker.application import Worker
from tests.fakes import a_request

DELAYS = ("5s", "30s", "2m", "10m")


@pytest.fixture(scope="module")
def with_password() -> Settings:
    url = "amqps://user:secret@broker.example:5671/vhost?heartbeat=5"
    return Settings(_env_file=None, broker_url=url, broker_queue_name="pages.requests")


@pytest.fixture(scope="module")
def topology(with_password: Settings) -> Topology:
    return assemble(with_password, service_name="test").topology


@pytest.fixture(scope="module")
def documents(with_password: Settings) -> Documents:
    documents: Documents = create_api(with_password).state.documents
    return documents


@pytest.fixture(scope="module")
def api(documents: Documents) -> Any:
    return documents.api


@pytest.fixture(scope="module")
def worker(documents: Documents) -> Any:
    return documents.worker


@pytest.fixture(scope="module", params=["api", "worker"])
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


def test_a_document_has_a_title_a_version_and_a_license(either: Any) -> None:
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


def test_the_api_sends_requests_and_tells_of_deletions(api: Any) -> None:
    assert operations(api) == {
        ("requestMetadata", "send", "pages.requests"),
        ("tellPageDeleted", "send", "page.deleted"),
    }


def test_the_worker_receives_requests_and_retries_and_sends_retries_dead_letters_and_events(
    worker: Any,
) -> None:
    assert operations(worker) == {
        ("collectMetadata", "receive", "pages.requests"),
        ("collectMetadataAgain", "receive", "pages.retries"),
        ("retryLater", "send", "pages.retry.{delay}"),
        ("rejectMessage", "send", "pages.dead"),
        *((f"tellPage{kind.capitalize()}", "send", f"page.{kind}") for kind in EventKind),
    }


def test_channels_and_messages_have_names_a_person_would_choose(worker: Any) -> None:
    assert list(worker["channels"]) == [
        "requests",
        "retries",
        "retriesLater",
        "deadLetters",
        *(f"page{kind.capitalize()}" for kind in EventKind),
    ]
    assert list(worker["components"]["messages"]) == [
        "MetadataRequested",
        "MetadataRequestedAgain",
        "DeadLetter",
        *(f"Page{kind.capitalize()}" for kind in EventKind),
    ]
    titles = {field["title"] for field in fields(worker).values()}
    assert titles == {"Page URL", "Request ID", "Time of the request", "Attempt"}


def test_both_documents_describe_what_they_share_in_the_same_way(api: Any, worker: Any) -> None:
    for part in ("servers", "defaultContentType"):
        assert api[part] == worker[part]
    assert api["channels"].items() <= worker["channels"].items()
    messages = worker["components"]["messages"]
    assert api["components"]["messages"].items() <= messages.items()
    assert api["components"]["schemas"] == worker["components"]["schemas"]


def test_the_api_serves_the_same_worker_document_as_a_worker_would(
    worker: Any, with_password: Settings, topology: Topology
) -> None:
    real = Worker(with_password)
    assert worker == worker_specification(real.consumer.broker, real.parts.broker, topology)


def test_every_channel_operation_and_message_is_described(worker: Any) -> None:
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


def test_each_queue_is_described_with_the_arguments_that_are_declared(
    worker: Any, topology: Topology
) -> None:
    channels = {channel["address"]: channel for channel in worker["channels"].values()}
    shared = (topology.requests, topology.retries, topology.dead)
    events = {f"page.{kind}" for kind in EventKind}
    assert set(channels) == {*(it.name for it in shared), "pages.retry.{delay}", *events}
    for queue in shared:
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


def test_the_retry_queues_are_one_channel_whose_parameter_is_the_delay(
    worker: Any, topology: Topology
) -> None:
    channel = worker["channels"]["retriesLater"]
    assert channel["parameters"]["delay"]["enum"] == list(DELAYS)
    binding = channel["bindings"]["amqp"]
    described = {
        binding["queue"]["name"].replace("{delay}", delay): {
            **binding["x-queue-arguments"],
            **binding["x-queue-arguments-by-delay"][delay],
        }
        for delay in DELAYS
    }
    assert described == {queue.name: queue.arguments for queue in topology.retry_delays.values()}
    assert channel["address"] == binding["queue"]["name"]


def test_another_setting_of_the_delays_changes_no_name_of_the_document(worker: Any) -> None:
    settings = Settings(_env_file=None, worker_retry_delays_seconds="1,2")
    other = create_api(settings).state.documents.worker
    for part in ("channels", "operations"):
        assert other[part].keys() == worker[part].keys()
    assert other["channels"]["retriesLater"]["parameters"]["delay"]["enum"] == ["1s", "2s"]


def test_an_event_is_described_with_the_exchange_that_is_declared(
    worker: Any, topology: Topology
) -> None:
    for kind in EventKind:
        channel = worker["channels"][f"page{kind.capitalize()}"]
        assert channel["bindings"]["amqp"] == {
            "is": "routingKey",
            "bindingVersion": "0.3.0",
            "exchange": {
                "name": topology.events.name,
                "type": "topic",
                "durable": True,
                "autoDelete": False,
                "vhost": "/vhost",
            },
        }


def test_the_example_of_each_event_fits_its_schema(worker: Any) -> None:
    for kind in EventKind:
        message = worker["components"]["messages"][f"Page{kind.capitalize()}"]
        schema = {**message["payload"], "components": worker["components"]}
        (example,) = message["examples"]
        Draft7Validator(schema, format_checker=FormatChecker()).validate(example["payload"])
        assert example["payload"]["type"] == message["bindings"]["amqp"]["messageType"]


def test_events_that_are_off_are_not_described() -> None:
    settings = Settings(_env_file=None, events=False)
    documents = create_api(settings).state.documents
    for document in (documents.api, documents.worker):
        assert not [it for it in document["operations"] if it.startswith("tell")]
        assert list(document["components"]["schemas"]) == ["MetadataRequested"]


def test_every_argument_is_in_the_description_of_its_queue(worker: Any, topology: Topology) -> None:
    channels = {channel["address"]: channel for channel in worker["channels"].values()}
    for queue in (topology.requests, topology.retries, topology.dead):
        for name, value in (queue.arguments or {}).items():
            shown = f"`{value}`" if value != "" else "(empty)"
            assert f"| `{name}` | {shown} | " in channels[queue.name]["description"]


def test_messages_are_described_as_persistent_mandatory_and_with_a_timestamp(worker: Any) -> None:
    expected = {"deliveryMode": 2, "mandatory": True, "timestamp": True, "bindingVersion": "0.3.0"}
    assert worker["operations"]["retryLater"]["bindings"]["amqp"] == expected
    for kind in EventKind:
        binding = worker["operations"][f"tellPage{kind.capitalize()}"]["bindings"]["amqp"]
        assert binding == {**expected, "mandatory": False}  # nobody has to listen


def test_a_dead_letter_keeps_the_properties_it_had(worker: Any) -> None:
    binding = worker["operations"]["rejectMessage"]["bindings"]["amqp"]
    assert binding == {"bindingVersion": "0.3.0"}


def test_received_messages_are_described_as_acknowledged(worker: Any) -> None:
    binding = worker["operations"]["collectMetadata"]["bindings"]["amqp"]
    assert binding == {"ack": True, "bindingVersion": "0.3.0"}


def fields(document: Any) -> dict[str, Any]:
    schema = document["components"]["schemas"]["MetadataRequested"]
    properties: dict[str, Any] = schema["properties"]
    return properties


def test_the_payload_has_every_field_described_with_an_example(either: Any) -> None:
    schema = either["components"]["schemas"]["MetadataRequested"]
    assert list(schema["properties"]) == list(MetadataRequested.model_fields)
    assert schema["required"] == ["url", "request_id", "requested_at"]
    for field in schema["properties"].values():
        assert field["description"]
        for example in field["examples"]:
            Draft7Validator(field, format_checker=FormatChecker()).validate(example)


def test_every_field_of_an_event_is_described(worker: Any) -> None:
    schemas = worker["components"]["schemas"]
    for name in ("PageEventMessage", "EventData", "EventError"):
        for field in schemas[name]["properties"].values():
            assert "$ref" in field or field["description"]
            for example in field.get("examples", ()):
                Draft7Validator(field, format_checker=FormatChecker()).validate(example)


def test_a_message_names_its_properties(either: Any) -> None:
    message = either["components"]["messages"]["MetadataRequested"]
    described = message["x-amqp-properties"]["properties"]
    for name in ("message_id", "correlation_id", "type", "content_type"):
        assert described[name]["description"]
        assert f"| `{name}` | " in message["description"]
    assert described["content_type"]["const"] == message["contentType"] == CONTENT_TYPE
    message_type = message["bindings"]["amqp"]["messageType"]
    assert described["type"]["const"] == message_type == MESSAGE_TYPE
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
def test_every_accepted_url_fits_the_schema_once_it_is_canonical(worker: Any, url: str) -> None:
    schema = {"$ref": "#/components/schemas/MetadataRequested"}
    body = MetadataRequested.from_request(a_request(canonical_url(url))).model_dump_json()
    validator(worker, schema).validate(json.loads(body))


@pytest.mark.parametrize(
    "url",
    ["example.com", "ftp://example.com/", "https://example.com", "https://a/#b", "https://u@a/"],
)
def test_a_url_that_is_not_canonical_does_not_fit_the_schema(worker: Any, url: str) -> None:
    assert not Draft7Validator(fields(worker)["url"]).is_valid(url)


def test_the_header_of_a_message_that_was_deferred_is_described(worker: Any) -> None:
    message = worker["components"]["messages"]["MetadataRequestedAgain"]
    assert DEFERRALS_HEADER in message["headers"]["properties"]


def test_the_overlay_describes_nothing_that_no_process_has(worker: Any, api: Any) -> None:
    overlay = yaml.safe_load(OVERLAY.read_text())

    def described(section: str) -> set[str]:
        kinds = [kind.capitalize() for kind in EventKind]
        return {name.replace("{Kind}", kind) for name in overlay[section] for kind in kinds}

    assert described("channels") == worker["channels"].keys() | api["channels"].keys()
    assert described("operations") == worker["operations"].keys() | api["operations"].keys()
    assert described("messages") == worker["components"]["messages"].keys()
    arguments = {
        name
        for channel in worker["channels"].values()
        for name in channel["bindings"]["amqp"].get("x-queue-arguments", ())
    }
    assert overlay["arguments"].keys() == arguments | {"x-message-ttl"}


def test_an_operation_that_the_overlay_does_not_describe_is_an_error(topology: Topology) -> None:
    broker = RabbitBroker()
    broker.publisher(topology.requests, title="forgotten")
    with pytest.raises(KeyError, match=r"not described in overlay\.yaml: forgotten"):
        api_specification(broker, topology)


def test_what_goes_through_an_exchange_keeps_the_binding_that_faststream_generates(
    topology: Topology, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overlay = yaml.safe_load(OVERLAY.read_text())
    overlay["channels"]["requests"]["address"] = "page.completed"
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    monkeypatch.setattr("app.contract.documents.OVERLAY", tmp_path / "overlay.yaml")
    broker = RabbitBroker()
    events = RabbitExchange("events", ExchangeType.TOPIC)
    broker.publisher(exchange=events, routing_key="page.completed", title="requestMetadata")
    channel = api_specification(broker, topology)["channels"]["requests"]
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "events"
    assert channel["description"].endswith("new messages.")


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


def test_a_document_written_as_yaml_reads_back_as_the_same_document(either: Any) -> None:
    text = as_yaml(either)
    assert yaml.safe_load(text) == either
    assert "\\n" not in text
    assert "&id" not in text
