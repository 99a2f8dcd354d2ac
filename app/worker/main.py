"""The worker process: `faststream run app.worker.main:app --host 0.0.0.0 --port 6578`.

This module and `app/api/main.py` are the only ones that do something when they are imported:
they read the settings, because uvicorn and FastStream want an object. Nothing connects yet.
"""

from app.runtime.process import spare_the_collector
from app.runtime.start import prepare_process
from app.worker.application import create_app

app = create_app(prepare_process("worker"))
spare_the_collector()
