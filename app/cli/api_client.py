"""The HTTP API as the commands call it."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from app.cli.showing import Answer
from app.cli.terminal import fail

CONCURRENT_CALLS = 64

MAX_WAIT_SECONDS = 60
"""How long a call waits for a page at most: the API would not wait longer either."""

BATCH_TIMEOUT_SECONDS = 300.0
"""How long to wait for the answer to a batch. Where the database does not answer, the API takes
some seconds for each hundred URLs."""

LONGEST_PAUSE_SECONDS = 5.0
"""How long to wait at most before the next try, whatever `Retry-After` says."""

MAX_LISTED = 100
"""How many pages one call lists at most."""

TRY_AGAIN: frozenset[int] = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
)

NOT_INDEXED = "urn:page-metadata:problem:not-indexed"
"""A problem that does not pass by itself, although its status is 503."""

Query = Mapping[str, str | int | Sequence[str]]


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What the API has answered to a batch."""

    results: list[tuple[Answer, int]]
    """What became of each URL, with the HTTP status of its problem: 200 if there is none."""

    retry_after: float | None
    """How many seconds the API asks to wait; None if it does not say."""


class ApiClient:
    """Calls the API, and tries again after 429 and 503 until the timeout is over.

    With `wait_seconds` the API answers when a page has ended, but not later than that; then it is
    asked again. `max_age` and `fields` are passed on.
    """

    def __init__(  # noqa: PLR0913 - each is an option of its own
        self,
        api: str,
        timeout_seconds: float,
        *,
        key: str | None = None,
        wait_seconds: int | None = None,
        max_age: int | None = None,
        fields: str | None = None,
    ) -> None:
        self._api = api
        self._wait_seconds = wait_seconds
        self._max_age = {} if max_age is None else {"max_age": max_age}
        self._fields = {} if fields is None else {"fields": fields}
        self._timeout_seconds = timeout_seconds
        self._give_up_at = time.monotonic() + timeout_seconds
        # uvicorn closes a connection after 5 s without a request, and a 503 asks to wait 5 s: the
        # next request would be sent on a connection that is just being closed.
        limits = httpx.Limits(keepalive_expiry=2)
        timeout = httpx.Timeout(30, read=MAX_WAIT_SECONDS + 30)
        self._client = httpx.AsyncClient(
            base_url=api,
            timeout=timeout,
            trust_env=False,
            limits=limits,
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )
        self._calls = asyncio.Semaphore(CONCURRENT_CALLS)

    @property
    def gives_up(self) -> bool:
        """Whether the timeout is over, so that nothing is tried again."""
        return time.monotonic() > self._give_up_at

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def submit(self, url: str) -> Answer:
        """Have a page queued, and try again while the answer is 429 or 503."""
        body = {"url": url} | self._max_age
        return await self._until_final(url, TRY_AGAIN, "POST", json=body, params=self._fields)

    async def submit_batch(self, urls: Sequence[str]) -> BatchAnswer:
        """Have pages queued by one call, once."""
        body = {"urls": urls} | self._max_age
        answer = await self._call(
            "POST", "/metadata/batch", json=body, timeout=BATCH_TIMEOUT_SECONDS
        )
        retry_after = _retry_after(answer) if "retry-after" in answer.headers else None
        if answer.status_code == HTTPStatus.MULTI_STATUS:
            items = answer.json()["items"]
            return BatchAnswer(list(map(_result, urls, items)), retry_after)
        return BatchAnswer(
            [(_parsed(url, answer), answer.status_code) for url in urls], retry_after
        )

    async def read(self, url: str) -> Answer:
        """Return the record of a page as it is now."""
        return _parsed(url, await self._call("GET", "/metadata", params=self._query(url)))

    async def read_known(self, url: str) -> Answer:
        """Return the record of a page, however old it is, and have nothing queued."""
        query = {"url": url, "queue": "false"} | self._fields
        return await self._until_final(url, TRY_AGAIN, "GET", params=query)

    async def read_when_ended(self, url: str) -> Answer:
        """Return the record of a page once it is COMPLETED or has failed, or at the timeout."""
        return await self._until_final(url, TRY_AGAIN | {202}, "GET", params=self._query(url))

    async def delete(self, url: str) -> Answer:
        """Have a page deleted, and try again while the answer is 429 or 503."""
        return await self._until_final(url, TRY_AGAIN, "DELETE", params={"url": url})

    async def list_pages(self, filters: Query, limit: float) -> AsyncGenerator[Answer, None]:
        """Yield answers with `items`, up to so many in all, and `next` if more pages follow.

        The timeout is that of each call. A call that is refused ends the program.
        """
        cursor: dict[str, str] = {}
        while limit > 0:
            self._give_up_at = time.monotonic() + self._timeout_seconds
            query = {**filters, **cursor, "limit": int(min(MAX_LISTED, limit))}
            answer = await self._final_answer(TRY_AGAIN, "GET", "/metadata/pages", params=query)
            if answer.status_code != HTTPStatus.OK:
                fail(_problem_of(answer))
            listed: Answer = _body_of(answer)
            if "items" not in listed:
                fail(f"{self._api} does not answer with a list; is the API there?")
            yield listed
            if listed["next"] is None:
                return
            limit -= len(listed["items"])
            cursor = {"cursor": listed["next"]}

    def _query(self, url: str) -> dict[str, str | int]:
        return {"url": url} | self._max_age | self._fields

    async def _until_final(
        self, url: str, again: frozenset[int], method: str, **options: Any
    ) -> Answer:
        return _parsed(url, await self._final_answer(again, method, "/metadata", **options))

    async def _final_answer(
        self, again: frozenset[int], method: str, path: str, **options: Any
    ) -> httpx.Response:
        while True:
            answer = await self._call(method, path, **options)
            if answer.status_code not in again or NOT_INDEXED in answer.text or self.gives_up:
                return answer
            # An answer that was waited for need not be waited for again.
            if "preference-applied" not in answer.headers:
                await asyncio.sleep(min(_retry_after(answer), LONGEST_PAUSE_SECONDS))

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with self._calls:
            try:
                return await self._client.request(
                    method, path, headers=self._preference(), **options
                )
            except UnicodeEncodeError as exc:
                fail(f"{exc.object!r} has characters that are not Unicode")
            except (httpx.TransportError, httpx.InvalidURL) as exc:
                fail(f"no answer from {self._api} ({type(exc).__name__}); is the API running?")

    def _preference(self) -> dict[str, str]:
        if self._wait_seconds is None:
            return {}
        left = max(1.0, self._give_up_at - time.monotonic())
        return {"Prefer": f"wait={math.ceil(min(self._wait_seconds, left))}"}


def _retry_after(answer: httpx.Response) -> float:
    asked_for = answer.headers.get("retry-after", "1")
    return float(asked_for) if asked_for.isdecimal() else 1.0


def _parsed(url: str, answer: httpx.Response) -> Answer:
    """Return the record in an answer; a problem becomes `status: ERROR` with its detail."""
    if answer.status_code == HTTPStatus.NO_CONTENT:
        return {"status": "DELETED", "url": url}
    body = _body_of(answer)
    if isinstance(body, dict) and "url" in body:
        return body
    return _refused(url, _problem_of(answer))


def _result(url: str, item: Answer) -> tuple[Answer, int]:
    """Return what a batch has answered for one URL, and the HTTP status of its problem."""
    problem = item.get("problem")
    return (_refused(url, problem["detail"]), problem["status"]) if problem else (item, 200)


def _refused(url: str, detail: str) -> Answer:
    return {"status": "ERROR", "url": url, "error": {"kind": "refused", "message": detail}}


def _problem_of(answer: httpx.Response) -> str:
    body = _body_of(answer)
    return str(body.get("detail", answer.reason_phrase) if isinstance(body, dict) else body)


def _body_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return {"detail": f"{answer.status_code} {answer.reason_phrase}"}
