"""Our POST over another framework: `uvicorn bench.compare.api:app`, `CONTESTANT` naming its module.

The same FastAPI, uvicorn, body and answer. It queues the URL and writes no record.
"""

import os
from importlib import import_module

from bench.noop import make_api

_contestant = import_module(f"bench.compare.{os.environ['CONTESTANT']}")

app = make_api(_contestant.queue, lifespan=getattr(_contestant, "connected", None))
