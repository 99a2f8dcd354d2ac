"""`POST /metadata/batch`: ask for many pages in one call."""

import asyncio
from codecs import BOM_UTF8
from contextlib import AsyncExitStack
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from app.api import examples
from app.api.access import Handler, KeyedRoute, needs
from app.api.answers import HeldAnswer, as_json
from app.api.dependencies import ReaderDep
from app.api.middleware import MAX_BATCH_BYTES, announced_length
from app.api.openapi import answer, problems
from app.api.problems import (
    BATCH_TOO_LARGE,
    BATCHES_BUSY,
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_BODY,
    OF_KEYS,
    Refusal,
    field_error,
    problem_of,
)
from app.api.reading import PageReader
from app.api.schemas import BatchAnswer, BatchProblem, BatchRequest, BatchResult
from app.errors import InvalidUrl
from app.keys import Scope
from app.models import PageStatus
from app.urls import MAX_URL_LENGTH, canonical_url

AT_ONCE = 4
"""How many batches a process handles at once."""

HELD_BYTES = 16 * MAX_BATCH_BYTES
"""How many bytes of batches and of answers to them a process holds at once."""

ANSWER_BYTES = 512 * 1024
"""What an answer takes at most for the problems of its URLs. It repeats the URLs besides."""

PAGES_AT_ONCE = 100
"""How many pages of a batch are published side by side. A database that does not answer takes up to
five seconds of each."""

READ_IN_A_TURN = 20
"""How many URLs are made canonical in one go. A long one takes some 0.1 ms."""

Item = BatchResult | BatchProblem


class BatchRoute(KeyedRoute):
    """Has a batch wait for its turn, after its key was checked and its body has come."""

    def handler(self) -> Handler:
        """Return what handles a request that may pass."""
        handle = super().handler()

        async def handle_in_turn(request: Request) -> Response:
            batch, state = _BatchHttpRequest(request.scope, request.receive), request.app.state
            async with AsyncExitStack() as holding:
                size = announced_length(request.scope) or MAX_BATCH_BYTES
                await holding.enter_async_context(state.batch_bytes.taken(size + ANSWER_BYTES))
                await batch.body()  # whoever sends it slowly takes nobody's turn
                async with state.batches.taken(1):
                    answer = await handle(batch)
                return HeldAnswer(answer, holding.pop_all())

        return handle_in_turn


class _BatchHttpRequest(Request):
    """Reads JSON as a batch and nothing else.

    Python objects for all that 4 MiB of JSON can hold would take some 300 MB.
    """

    async def json(self) -> BatchRequest:
        """Return the body. Raises a `Refusal` if it is no batch."""
        # Python's own JSON, which reads the bodies of other calls, ignores a byte order mark too.
        text = (await self.body()).removeprefix(BOM_UTF8)
        try:
            return BatchRequest.model_validate_json(text)
        except ValidationError as exc:
            errors = [{**it, "loc": ("body", *it["loc"])} for it in exc.errors()]
            raise Refusal(INVALID_BODY, [field_error(it) for it in errors]) from exc


router = APIRouter(tags=["metadata"], route_class=BatchRoute)


@router.post(
    "/metadata/batch",
    status_code=HTTPStatus.MULTI_STATUS,
    summary="Ask for many pages",
    response_model=BatchAnswer,
    responses=answer(
        HTTPStatus.MULTI_STATUS, "What became of each URL", examples.BATCHES, model=BatchAnswer
    )
    | problems(
        *(*OF_KEYS, INVALID_BODY, BATCH_TOO_LARGE, BATCHES_BUSY, DATABASE_UNAVAILABLE),
        INTERNAL_ERROR,
    ),
)
@needs(Scope.WRITE)
async def request_batch(body: BatchRequest, reader: ReaderDep) -> Response:
    """Queue up to 1000 pages. Each is asked for as by `POST /metadata`, with a result of its own.

    A URL that is not taken, or a page that cannot be queued, has a `problem` in place of a
    `request_id`; the others are queued all the same. Against a limit of requests a minute each page
    counts as one: those beyond it have a problem too.
    """
    answers = await _ask_for_all(body, reader)
    answered = BatchAnswer.model_construct(items=answers)
    return as_json(answered, HTTPStatus.MULTI_STATUS, leaves_out_unset=True)


async def _ask_for_all(body: BatchRequest, reader: PageReader) -> list[Item]:
    """Return one item for each URL. A page that is there twice is asked for once."""
    urls: dict[str, str | BatchProblem] = {}
    for number, text in enumerate(body.urls):
        if number % READ_IN_A_TURN == 0:
            await asyncio.sleep(0)  # other requests have a turn too
        urls[text] = _canonical(text)
    pages = list(dict.fromkeys(url for url in urls.values() if isinstance(url, str)))
    turns = asyncio.Semaphore(PAGES_AT_ONCE)

    async def ask(number: int, url: str) -> Item:
        async with turns:
            return await _ask_for_one(url, body.max_age, reader, is_first=number == 0)

    asking = (ask(number, url) for number, url in enumerate(pages))
    items = dict(zip(pages, await asyncio.gather(*asking), strict=True))
    answers = (urls[text] for text in body.urls)
    return [items[it] if isinstance(it, str) else it for it in answers]


async def _ask_for_one(
    url: str, max_age: int | None, reader: PageReader, *, is_first: bool
) -> Item:
    try:
        if not is_first:  # the first one was counted against the caller's limit with the call
            reader.spend()
        known = await reader.inventory.find_fresh(url, max_age, frozenset())
        if known is not None:
            return BatchResult(url=url, status=known.status, request_id=known.request_id)
        request = await reader.inventory.request(url)
    except Exception as exc:  # noqa: BLE001 (what happens to one page is told of that page)
        return BatchProblem(url=url, problem=problem_of(exc))
    return BatchResult(url=url, status=PageStatus.QUEUED, request_id=request.request_id)


def _canonical(text: str) -> str | BatchProblem:
    try:
        return canonical_url(text)
    except InvalidUrl as exc:
        return BatchProblem(url=text[:MAX_URL_LENGTH], problem=problem_of(exc))
