"""Many small operations as a few large ones."""

import asyncio
from collections.abc import Sequence

import pytest

from app.store.batching import Batcher


class Doubler:
    """Doubles numbers once it is let; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, numbers: Sequence[int]) -> list[int | BaseException]:
        self.calls.append(list(numbers))
        await self.gate.wait()
        return [ValueError(number) if number < 0 else 2 * number for number in numbers]


def a_batcher(run: Doubler, *, timeout_seconds: float = 5, most: int = 3) -> Batcher[int, int]:
    return Batcher(run, timeout_seconds=timeout_seconds, most=most)


async def test_the_first_goes_alone_and_those_that_come_meanwhile_together() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = a_batcher(doubler)
    first = asyncio.create_task(batcher(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(batcher(number)) for number in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    doubler.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10]
    assert doubler.calls == [[1], [2, 3, 4], [5]]


async def test_one_after_the_other_is_never_forgotten() -> None:
    batcher = a_batcher(Doubler())
    for number in range(50):
        assert await batcher(number) == 2 * number


async def test_each_is_told_its_own_failure() -> None:
    batcher = a_batcher(Doubler())
    answers = await asyncio.gather(batcher(1), batcher(-2), batcher(3), return_exceptions=True)
    assert (answers[0], answers[2]) == (2, 6)
    assert isinstance(answers[1], ValueError)


async def test_a_failure_of_all_is_told_to_all_and_then_forgotten() -> None:
    failing = True

    async def run(numbers: Sequence[int]) -> Sequence[int]:
        if failing:
            raise ConnectionResetError
        return numbers

    batcher = Batcher(run, timeout_seconds=5)
    answers = await asyncio.gather(batcher(1), batcher(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionResetError] * 2
    failing = False
    assert await batcher(3) == 3


async def test_who_has_gone_does_not_keep_the_others_from_their_answers() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = a_batcher(doubler)
    gone, stays = asyncio.create_task(batcher(1)), asyncio.create_task(batcher(2))
    await asyncio.sleep(0)
    gone.cancel()
    doubler.gate.set()
    assert await stays == 4


async def test_nobody_waits_longer_than_the_timeout() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = a_batcher(doubler, timeout_seconds=0.05)
    with pytest.raises(TimeoutError):
        await batcher(1)


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = a_batcher(doubler)
    first = asyncio.create_task(batcher(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone, stays = asyncio.create_task(batcher(2)), asyncio.create_task(batcher(3))
    await asyncio.sleep(0)
    gone.cancel()
    doubler.gate.set()
    assert [await first, await stays] == [2, 6]
    assert doubler.calls == [[1], [3]]


async def test_a_run_that_answers_too_little_fails_once_and_not_for_ever() -> None:
    answers = [[], [2]]

    async def run(_numbers: Sequence[int]) -> Sequence[int]:
        return answers.pop(0)

    batcher = Batcher(run, timeout_seconds=0.05)
    with pytest.raises(TimeoutError):
        await batcher(1)
    assert await batcher(2) == 2
