"""The API as an object that a server can name: `app.api.main:app`.

This module and `app/worker/main.py` are the only ones that do something when they are imported:
they read the settings, because uvicorn and FastStream want an object. Nothing connects yet.
"""

from app.api.application import create_app
from app.runtime.process import spare_the_collector
from app.runtime.start import prepare_process

app = create_app(prepare_process("api"))
spare_the_collector()
