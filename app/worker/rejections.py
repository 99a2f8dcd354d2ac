"""Messages that can't be handled go to the dead-letter queue at once, with a logged reason.

With manual acknowledgement FastStream would leave such a message unacknowledged: it would count
against the channel's prefetch limit until the channel closes.
"""

from types import TracebackType
from typing import Any

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream import BaseMiddleware, StreamMessage
from loguru import logger
from pydantic import ValidationError

from app.broker.messages import MetadataRequested
from app.runtime.metrics import DEAD_LETTERS

MAX_MESSAGE_BYTES = 64 * 1024


class MalformedMessage(Exception):
    """A message's body is not a request. The text says what is wrong with it."""


async def decode(message: StreamMessage[Any]) -> MetadataRequested:
    """Read a body as `MetadataRequested`, whatever its content type says.

    Raises `MalformedMessage`.
    """
    size = len(message.body)
    if size > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"{size} bytes, more than {MAX_MESSAGE_BYTES}")
    try:
        return MetadataRequested.model_validate_json(message.body)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in error["loc"]) or "body"
        raise MalformedMessage(f"{where}: {error['msg']}") from exc


class DeadLetterMiddleware(BaseMiddleware[Any, Any]):
    """Rejects every message whose handling ends in an exception."""

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        """Reject the message if its handling raised an exception.

        If its handling was cancelled it is left alone: the broker will deliver it again.
        """
        if not isinstance(exc_val, Exception):
            return await super().after_processed(exc_type, exc_val, exc_tb)
        malformed = isinstance(exc_val, MalformedMessage)
        DEAD_LETTERS.labels("malformed" if malformed else "unhandled").inc()
        logger.opt(exception=None if malformed else exc_val).error(
            "message_dead_lettered",
            reason=f"malformed: {exc_val}" if malformed else f"unhandled: {exc_val!r}",
            message_id=self.msg.message_id,
        )
        await self._reject()
        return True

    async def _reject(self) -> None:
        try:
            await self.msg.reject(requeue=False)
        except CONNECTION_EXCEPTIONS as exc:
            logger.warning("rejection_lost", reason=type(exc).__name__)
