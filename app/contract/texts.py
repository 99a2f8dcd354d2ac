"""The words of the AsyncAPI documents, as data. `{requests}` and the like become queue names."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from app.broker.messages import CONTENT_TYPE, DEFERRALS_HEADER, MESSAGE_TYPE

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """What introduces a part of a document to a person; `tag` groups what belongs together."""

    title: str
    description: str
    summary: str = ""
    tag: str = ""

    def naming(self, names: Mapping[str, str]) -> Self:
        """Return the text with the names of this deployment's queues in it."""
        words = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{key: word.format_map(names) for key, word in words.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that channels, operations and messages have in common."""
        words = {"title": self.title, "summary": self.summary, "description": self.description}
        tags = [{"name": self.tag}] if self.tag else []
        return {key: value for key, value in (words | {"tags": tags}).items() if value}


TAGS = {
    "requests": "Pages that somebody has asked for.",
    "retries": "Pages that are tried again after a delay.",
    "dead letters": "Messages that could not be handled: a person decides about them.",
}

_BOTH = """

The service keeps an inventory of web pages. Its API puts a request for a page into `{requests}`.
A worker takes it, fetches the page and keeps the result in a database, where it is read over HTTP:
no message tells of a page that was fetched. What may succeed later is asked for again: the worker
puts the request into the queue of a delay, and when that is over the broker moves it to
`{retries}`, where a worker takes it. What can't be handled goes to `{dead}`.

**To publish**, send the message to the default exchange, with the name of the queue as routing
key: JSON, persistent, mandatory. Wait for the broker's confirm, as the service does; a queue that
is full answers with `basic.nack`.

**To consume**, acknowledge a message once its outcome is safe. Delivery is at least once: the same
`request_id` may come again. All consumers of a queue share its messages, so a consumer beside the
workers takes messages away from them.

**Queues** are declared by both processes when they start. Whoever declares one as well has to give
the type and arguments that are listed here, or the broker refuses; to declare it passively is
enough.
"""

API = Text(
    title="Page metadata API",
    description="What the API sends. The worker's document has what becomes of it." + _BOTH,
)
WORKER = Text(
    title="Page metadata worker",
    description="What a worker receives, and what it sends if a page can't be had." + _BOTH,
)

REQUESTS = Text(
    title="New requests",
    summary="Pages to be fetched.",
    description="The API publishes here, and so may others; workers consume. The queue is bounded: "
    "while it is full it refuses new messages.",
    tag="requests",
)
RETRIES = Text(
    title="Retries that are due",
    summary="Pages to be fetched again, now.",
    description="The broker moves a retry here once its delay is over; workers consume. The queue "
    "is not bounded: a retry must not be refused because of new requests.",
    tag="retries",
)
DELAY = Text(
    title="Retries in {delay}",
    summary="Pages to be fetched again in {delay}.",
    description="Workers publish here and nobody consumes: after {delay} the broker moves a "
    "message to `{retries}`. To watch retries, get a message and give it back: `basic.get`, then "
    "`basic.nack` with `requeue`.",
    tag="retries",
)
DEAD_LETTERS = Text(
    title="Dead letters",
    summary="Messages that could not be handled.",
    description="The broker moves a message here that a worker has rejected, or that was delivered "
    "too often without being settled. An operator looks at it, and sends it back or discards it. "
    "The queue is not bounded, and nothing expires.",
    tag="dead letters",
)

ARGUMENTS = {
    "x-queue-type": "how the broker keeps the queue",
    "x-max-length": "messages that may wait; more are refused or dropped, as `x-overflow` says",
    "x-overflow": "`reject-publish`: while the queue is full a new message is refused",
    "x-delivery-limit": "deliveries after which a message that nobody settled is dead-lettered",
    "x-message-ttl": "milliseconds a message stays before it is dead-lettered",
    "x-dead-letter-exchange": "where dead-lettered messages go; empty is the default exchange",
    "x-dead-letter-routing-key": "and there to the queue of this name",
    "x-dead-letter-strategy": "`at-least-once`: moving a message can't lose it",
}
"""What each queue argument is good for."""

OPERATIONS = {
    "requestMetadata": Text(
        title="Request a page",
        description="Sent for each `POST /metadata`, and for a page that is read but not known "
        "yet. The API answers its caller once the broker has confirmed the message.",
        tag="requests",
    ),
    "collectMetadata": Text(
        title="Collect a page",
        description="One attempt to fetch the page. The message is acknowledged once the result, "
        "the failure or the retry is safe. A page that was fetched since `requested_at`, or is "
        "being fetched, is not fetched again. Only the body is read: the properties of a message "
        "are for people and tools.",
        tag="requests",
    ),
    "collectMetadataAgain": Text(
        title="Collect a page again",
        description="Handled like a new request. `attempt` says which fetch this is.",
        tag="retries",
    ),
    "rejectMessage": Text(
        title="Give up on a message",
        description="The worker rejects the message (`basic.reject`, not requeued) and the broker "
        "moves it. A page that can't be fetched is no dead letter: its record says so.",
        tag="dead letters",
    ),
}
RETRY = Text(
    title="Retry in {delay}",
    description="Sent after a failure that may pass, such as a timeout or status 503, and when the "
    "database could not be reached. The first message is acknowledged once this one is confirmed.",
    tag="retries",
)
"""The operations on the queue of each delay."""

MESSAGE = Text(
    title="Request for a page",
    summary="A page is to be fetched.",
    description="Its properties, which are not headers:",
    tag="requests",
)
MESSAGE_AGAIN = Text(
    title="Request for a further attempt",
    summary="A page is to be fetched again.",
    description="The request as it was, with the number of the next attempt. Its properties:",
    tag="retries",
)
DEAD_MESSAGE = Text(
    title="Dead letter",
    summary="A message that could not be handled, as it was.",
    description="Properties and headers are those it had, with what the broker says of its death.",
    tag="dead letters",
)
DEAD_PAYLOAD = Text(
    title="Any body",
    description="A request that was delivered too often, or whatever it was that is no request: "
    "perhaps not even JSON.",
)

PROPERTIES: Schema = {
    "type": "object",
    "required": [
        *("content_type", "delivery_mode", "message_id", "correlation_id", "type", "timestamp"),
    ],
    "properties": {
        "content_type": {"const": CONTENT_TYPE, "description": "JSON, in UTF-8"},
        "delivery_mode": {"const": 2, "description": "persistent: it outlives the broker"},
        "message_id": {
            "type": "string",
            "format": "uuid",
            "description": "names this one message; a retry has another",
        },
        "correlation_id": {
            "type": "string",
            "format": "uuid",
            "description": "the `request_id` of the body, the same in every retry",
        },
        "type": {"const": MESSAGE_TYPE, "description": "says which schema the body has"},
        "timestamp": {"type": "integer", "description": "when it was sent, in seconds since 1970"},
    },
}
"""The AMQP properties of a message. AsyncAPI keeps them out of `headers`."""

HEADERS: Schema = {
    "x-delivery-count": {
        "type": "integer",
        "minimum": 0,
        "description": "Set by the broker in a quorum queue: how often the message was delivered "
        "before.",
    },
    "traceparent": {
        "type": "string",
        "description": "The trace it belongs to (W3C Trace Context), if tracing is on.",
    },
}
"""What any message may have."""

DEFERRALS: Schema = {
    DEFERRALS_HEADER: {
        "type": "integer",
        "minimum": 1,
        "description": "How often the request was put off, its attempt unused, because the "
        "database could not be reached, or every connection that may go to its host at once was "
        "in use. Not there if it never was.",
        "examples": [1],
    }
}

DEATHS: Schema = {
    "x-death": {
        "type": "array",
        "description": "Set by the broker: why the message left which queue, the latest first.",
        "items": {
            "type": "object",
            "required": ["queue", "reason", "count"],
            "properties": {
                "queue": {"type": "string", "description": "The queue it left."},
                "reason": {
                    "type": "string",
                    "description": "`expired` after a delay, `rejected` by a worker, or "
                    "`delivery_limit`: delivered too often.",
                },
                "count": {"type": "integer", "description": "How often it did so."},
            },
        },
    },
    "x-first-death-queue": {"type": "string", "description": "The queue it left first."},
    "x-first-death-reason": {"type": "string", "description": "Why it left that."},
    "x-first-death-exchange": {
        "type": "string",
        "description": "The exchange it was sent to; empty is the default exchange.",
    },
}
"""What the broker adds to a message that it moves."""

DEATH_EXAMPLE: Schema = {
    "x-death": [{"queue": "metadata.requests", "reason": "rejected", "count": 1}],
    "x-first-death-queue": "metadata.requests",
    "x-first-death-reason": "rejected",
    "x-first-death-exchange": "",
}
