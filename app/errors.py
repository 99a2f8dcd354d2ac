"""Every exception that the service raises itself.

    InventoryError
    ├── InvalidUrl                  not a page this inventory takes
    ├── UnknownPage                 there is no record, and the caller may not have one made
    ├── UnknownRequest              no record mentions the request, or none does any more
    ├── NotEnded                    the page has no result yet, and the caller wants nothing else
    ├── UnknownKey                  there is no such API key to rotate or revoke
    ├── NameTaken                   another API key has the name
    ├── StartupError                a process that must not start, and why
    │   ├── BrokerUnreachable
    │   ├── DatabaseUnreachable
    │   └── TopologyMismatch        a queue is missing, or has other arguments
    ├── PublishError                a message that may not have been queued
    │   ├── PublisherNotReady
    │   └── PublishFailed
    ├── StoreError
    │   ├── StoreUnavailable        the database did not answer in time
    │   ├── NotStorable             the database will never take this page as it is
    │   ├── UnreadableRecord        a record that this version cannot read
    │   └── NotIndexed              a query would read every record, and so is not made
    ├── FetchError                  a page that could not be fetched
    └── HostBusy                    a page whose host has all its connections in use
        └── TooManyFetches          or was asked for as many pages as it may be in a minute

Only an adapter catches its driver's exceptions and raises one of these instead, and only
`app/api/problems.py` knows which HTTP status each becomes.
"""

from enum import StrEnum

from app.models import ErrorKind, PageError

MAX_MESSAGE_LENGTH = 500


class InventoryError(Exception):
    """The root of the tree."""


class InvalidUrl(InventoryError):
    """The URL can't be taken; the text says why and what would be taken."""


class UnknownPage(InventoryError):
    """There is no record of the page, and this request is not to queue it."""


class UnknownRequest(InventoryError):
    """No record mentions the request: it was never accepted, or is forgotten."""


class NotEnded(InventoryError):
    """The page has no result yet, neither good nor bad."""


class UnknownKey(InventoryError):
    """There is no API key of this name or id that is not revoked."""


class NameTaken(InventoryError):
    """Another API key has this name."""


class StartupError(InventoryError):
    """The process can't start; the text says what to do about it."""


class BrokerUnreachable(StartupError):
    """RabbitMQ could not be reached within the attempts allowed."""


class DatabaseUnreachable(StartupError):
    """MongoDB could not be reached within the attempts allowed."""


class TopologyMismatch(StartupError):
    """A queue is missing, or it or the exchange is not as `app/broker/topology.py` has it."""


class PublishFault(StrEnum):
    """Why a message was not published, or perhaps not. The values are labels and log fields."""

    NOT_READY = "publisher_not_ready"
    QUEUE_REJECTED = "queue_rejected"
    CONNECTION_LOST = "connection_lost"
    CONFIRM_TIMEOUT = "confirm_timeout"
    UNROUTABLE = "unroutable"


class PublishError(InventoryError):
    """The broker has not taken the message, or has not said so."""

    def __init__(self, reason: PublishFault) -> None:
        super().__init__(reason)
        self.reason = reason


class PublisherNotReady(PublishError):
    """Nothing was sent: the publisher has no usable connection at the moment."""


class PublishFailed(PublishError):
    """The message was sent, or tried to be, and was not confirmed."""


class StoreError(InventoryError):
    """The database did not do what was asked."""


class StoreUnavailable(StoreError):
    """The database could not be reached, or did not answer in time."""


class NotStorable(StoreError):
    """The document breaks a limit of the database, so writing it again would not help."""


class NotIndexed(StoreError):
    """The database lacks the indexes for a query; the text says what makes them."""


class UnreadableRecord(StoreError):
    """A record of the database lacks a field, or has one of another type, so it cannot be read."""


class FetchError(InventoryError):
    """A page could not be fetched.

    `retryable` tells a fault that may pass (a refused connection) from one that will not
    (a certificate that does not verify).
    """

    def __init__(self, kind: ErrorKind, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retryable = retryable

    def as_page_error(self) -> PageError:
        """Return the error as it is kept in the page's record, in text that can be kept."""
        storable = self.message.encode(errors="backslashreplace").decode()
        return PageError(self.kind, storable[:MAX_MESSAGE_LENGTH])


class HostBusy(InventoryError):
    """Every connection to a host stayed in use: the page is to be fetched later."""


class TooManyFetches(HostBusy):
    """As many fetches as may begin at a host in a minute have begun in this process."""
