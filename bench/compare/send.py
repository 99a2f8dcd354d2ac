"""Sends as one contestant does: `python -m bench.compare.send on_celery SITE_PORT [PAGES]`.

It sends `PAGES` messages, or for some seconds, then prints the event `sent` with the messages a
second and the CPU time of one.
"""

import json
import sys
from dataclasses import asdict
from importlib import import_module

from bench.compare.sending import Sending

if __name__ == "__main__":
    name, site_port, *pages = sys.argv[1:]
    contestant = import_module(f"bench.compare.{name}")
    sending = Sending(int(site_port), int(pages[0]) if pages else None)
    contestant.send(sending)
    event = {"event": "sent", **asdict(sending.rate)}
    print(json.dumps(event), flush=True)  # noqa: T201 (the caller reads it)
