"""Benchmark of key holders beside strangers, who may not pass: they should slow nobody down.

`python -m bench.strangers PORT KEY...` is the strangers' side. It sends GETs until it is killed,
each of its connections as soon as it has the answer before, with the keys in turn.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from statistics import median

import uvloop

from app.keys import Scope, key_text, new_id, new_secret
from app.store.keys import KeyRegistry
from app.store.mongo import KEY_COLLECTION
from bench.http import store_page
from bench.load import Result, get, load
from bench.report import Reading
from bench.setup import Setup
from dev.stack import ROOT, Api, running

KINDS = ("strangers without a key", "strangers with a wrong key", "strangers with unknown keys")

STRANGERS = 64
HOLDERS = 16

HOLDERS_PER_SECOND = 200.0
"""A third or less of what one process answers, so that what is measured is the strangers' effect
and not a queue of the holders' own."""

MOST_SECONDS = 60.0
"""After this the strangers end by themselves, should nobody kill them."""

TURNS = 5
SECONDS = 3.0
"""Alone and beside strangers in turn, since a machine is now faster and now slower."""


def strangers(setup: Setup) -> Iterator[Reading]:
    """Measure the median latency of GET with a key, alone and beside three kinds of strangers."""
    url = setup.page_url("held")
    store_page(setup, url)
    registry = KeyRegistry(setup.pages.database[KEY_COLLECTION])
    held = registry.create(new_id(), [Scope.READ], requests_per_minute=0)
    with running(api := setup.another_api(API_AUTH="required")):
        for kind, keys in zip(KINDS, _keys_by_kind(held.id), strict=True):
            alone: list[float] = []
            beside: list[float] = []
            for _ in range(TURNS):
                alone += _holders(api, url, held.key).latencies
                with _sending(api, keys):
                    beside += _holders(api, url, held.key).latencies
            yield Reading(f"key holders beside {kind}", median(beside) * 1e3, median(alone) * 1e3)


def _keys_by_kind(known_id: str) -> Iterator[Sequence[str]]:
    yield []
    yield [key_text(known_id, new_secret())]
    yield [key_text(new_id(), new_secret()) for _ in range(STRANGERS)]


def _holders(api: Api, url: str, key: str) -> Result:
    requests = get(api.port, f"/metadata?url={url}", f"Authorization: Bearer {key}")
    result = uvloop.run(
        load(
            api.port,
            requests,
            wanted=200,
            connections=HOLDERS,
            seconds=SECONDS,
            rate=HOLDERS_PER_SECOND,
        )
    )
    if result.failures:
        raise RuntimeError(f"{result.failures} key holders were not answered 200")
    return result


@contextmanager
def _sending(api: Api, keys: Sequence[str]) -> Iterator[None]:
    """Have strangers ask while the block lasts."""
    command = [sys.executable, "-m", "bench.strangers", str(api.port), *keys]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as sender:
        try:
            _wait_for_line(sender)
            yield
            if sender.poll() is not None:
                raise RuntimeError("the strangers have stopped sending")
        finally:
            sender.kill()


def _wait_for_line(process: subprocess.Popen[bytes]) -> None:
    if process.stdout is None or not process.stdout.readline():
        raise RuntimeError("the strangers have not begun to send")


def _ask_as_strangers(port: int, keys: Sequence[str]) -> None:
    headers = [[f"Authorization: Bearer {key}"] for key in keys] or [[]]
    requests = (next(get(port, "/metadata?url=http://example.com/", *it)) for it in cycle(headers))
    sys.stdout.write("sending\n")
    sys.stdout.flush()
    uvloop.run(load(port, requests, wanted=401, connections=STRANGERS, seconds=MOST_SECONDS))


if __name__ == "__main__":
    _ask_as_strangers(int(sys.argv[1]), sys.argv[2:])
