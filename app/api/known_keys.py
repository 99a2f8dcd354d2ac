"""The API keys that a process knows, so that a request with one of them costs no query.

One task reads all keys from the database, every few seconds, and another writes down how much they
are used. So a revoked key ends soon, and known keys go on working while the database is away. A key
that is not among them may have been made since the last reading: its request waits for the next
one, which begins at once, or after a short pause if one has just been. However many strangers ask,
they cause a few queries a second at most.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic

from loguru import logger

from app.api.problems import TOO_MANY_REQUESTS, Refusal
from app.errors import StoreUnavailable
from app.keys import ApiKey
from app.runtime.repeating import repeat

REFRESH_SECONDS = 4.0
"""How often the keys are read."""

READ_SECONDS = 5.0
"""How long a reading may take, whatever the timeout of other queries is. So a revoked key stops
working within 10 s, unless readings fail."""

PAUSE_SECONDS = 0.25
"""The shortest pause between two readings."""

REST = 10
"""How many times as long as the last reading took the pause is at least, up to
`LONGEST_PAUSE_SECONDS`. So strangers with unknown keys keep the database busy for a tenth of the
time at most, as long as a reading takes less than a tenth of a second."""

LONGEST_PAUSE_SECONDS = 1.0

MAX_ASKING = 1000
"""How many requests may wait for a reading. Further ones are refused at once."""


Read = Callable[[], Awaitable[Sequence[ApiKey]]]
NoteUses = Callable[[Mapping[str, int]], Awaitable[None]]


class KnownKeys:
    """All keys as they were some seconds ago, and how often each has been used since.

    `read` returns every key, and `note_uses` takes how often each was used. Both may raise
    `StoreUnavailable`: then they are called again later.
    """

    def __init__(
        self,
        read: Read,
        note_uses: NoteUses,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._read_all = read
        self._write_down = note_uses
        self._refresh_seconds = refresh_seconds
        self._pause_seconds = pause_seconds
        self._keys: dict[str, ApiKey] = {}
        self._is_away = True
        self._asking: list[asyncio.Future[None]] = []
        self._asked = asyncio.Event()
        self._uses: Counter[str] = Counter()

    def get(self, key_id: str) -> ApiKey | None:
        """Return a key that is known, without asking anybody."""
        return self._keys.get(key_id)

    async def look_up(self, key_id: str) -> ApiKey | None:
        """Return a key that may have been made since the last reading.

        Raises `StoreUnavailable` while the database is away, and `Refusal` while too many ask.
        """
        if self._is_away:
            raise StoreUnavailable("the last reading of the keys has failed")
        if len(self._asking) >= MAX_ASKING:
            raise Refusal(TOO_MANY_REQUESTS, "too many unknown keys", {"Retry-After": "1"})
        read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking.append(read)
        self._asked.set()
        await read
        return self._keys.get(key_id)

    def note_use(self, key: ApiKey) -> None:
        """Count a request with a key."""
        self._uses[key.id] += 1

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Within the block, read the keys again and again, and write down how much they are used.

        The first reading is over when the block begins.
        """
        await self._read()
        if not self._keys and not self._is_away:
            logger.warning("api_has_no_keys")
        writing = repeat(
            self._write_uses, seconds=self._refresh_seconds, failure="key_uses_not_written"
        )
        tasks = [asyncio.create_task(it) for it in (self._keep_reading(), writing)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._settle(StoreUnavailable("the process stops"))
            await self._write_uses()

    async def _keep_reading(self) -> None:
        took = 0.0
        while True:
            await self._rest(took)
            began = monotonic()
            await self._read()
            took = monotonic() - began

    async def _rest(self, took: float) -> None:
        """Wait for the next reading: a short time if somebody asks for it, else longer."""
        if self._is_away:
            await asyncio.sleep(LONGEST_PAUSE_SECONDS)
            return
        pause = min(max(self._pause_seconds, REST * took), LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, self._refresh_seconds - pause)):
                await self._asked.wait()

    async def _read(self) -> None:
        # Who asks from here on waits for the next reading: this one may not see its key.
        asking, self._asking = self._asking, []
        self._asked.clear()
        failure: StoreUnavailable | None = None
        try:
            async with asyncio.timeout(READ_SECONDS):
                self._keys = {key.id: key for key in await self._read_all()}
        except StoreUnavailable as exc:
            failure = exc
        except TimeoutError:
            failure = StoreUnavailable("the keys could not be read in time")
        except Exception as exc:  # noqa: BLE001 (if this task ended, no key could be revoked)
            logger.opt(exception=exc).error("keys_not_read")
            failure = StoreUnavailable(str(exc))
        self._is_away = failure is not None
        self._settle(failure, asking)
        if failure:  # so have those in vain who have begun to ask meanwhile
            self._settle(failure)

    def _settle(
        self, failure: StoreUnavailable | None, asking: list[asyncio.Future[None]] | None = None
    ) -> None:
        if asking is None:
            asking, self._asking = self._asking, []
        for future in asking:
            if future.done():  # its caller has hung up
                continue
            if failure:
                future.set_exception(failure)
            else:
                future.set_result(None)

    async def _write_uses(self) -> None:
        uses, self._uses = self._uses, Counter()
        if not uses:
            return
        try:
            await self._write_down(uses)
        except Exception as exc:  # noqa: BLE001 (whatever it was, nothing was counted)
            logger.warning("key_uses_not_written", reason=type(exc).__name__)
            self._uses.update(uses)  # they are written next time
