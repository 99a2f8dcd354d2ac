"""How many POST a second one API process answers, each after its message is confirmed."""

from collections.abc import Callable
from functools import partial

from bench.compare.arena import place_in
from bench.compare.programs import Program
from bench.cpu import CpuTime, Rate
from bench.ground import Ground
from bench.http import post_pages
from bench.setup import SETTINGS

NOOP = "no-op endpoint"

OURS = ("app.api", "--port", "{port}")
OTHERS = ("uvicorn", "bench.compare.api:app", "--port", "{port}")
NOTHING = ("uvicorn", "bench.noop:app", "--port", "{port}")


def posts_per_second(ground: Ground, *, arguments: tuple[str, ...], contestant: str = "") -> Rate:
    """Have 64 callers POST as many pages as they can."""
    with place_in(ground) as place:
        environment = {**SETTINGS, **place.environment, "CONTESTANT": contestant}
        with Program(place.folder, arguments, environment=environment) as api:
            api.wait_until_ready()
            with CpuTime({"API": [api]}) as cpu:
                posted = post_pages(api.port)
            return Rate(posted.per_second, cpu.ms_each(posted.answered)["API"])


def _over(contestant: str) -> Callable[[Ground], Rate]:
    return partial(posts_per_second, arguments=OTHERS, contestant=contestant)


POSTERS: dict[str, Callable[[Ground], Rate]] = {
    NOOP: partial(posts_per_second, arguments=NOTHING),
    "ours": partial(posts_per_second, arguments=OURS),
    "FastStream": _over("on_faststream"),
    "Celery": _over("on_celery"),
    "Dramatiq": _over("on_dramatiq"),
    "taskiq": _over("on_taskiq"),
}

REMARKS = {
    NOOP: "publishes nothing; as those below ours it runs under uvicorn, with uvicorn's log on",
    "ours": "`python -m app.api`; **writes the record too**, and logs two events",
    "FastStream": "awaits its publisher; one channel",
    "Celery": "`delay` in FastAPI's 40 threads, a connection each from Celery's pool",
    "Dramatiq": "`send` in FastAPI's 40 threads, a connection each",
    "taskiq": "awaits `kiq`; one channel",
}
