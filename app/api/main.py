"""The API as an object that a server can name: `app.api.main:app`.

This module and `app/worker/main.py` are the only ones that do something when they are imported:
they read the settings, because uvicorn and FastStream want an object. Nothing connects yet.
"""

from app.api.application import create_app
from app.runtime.logs import configure_logging
from app.runtime.process import (
    exit_with_zero_when_stopped,
    give_memory_back,
    spare_the_collector,
)
from app.runtime.settings import load_settings
from app.runtime.tracing import start_tracing

settings = load_settings()
configure_logging(service_name="api", level=settings.log_level, log_format=settings.log_format)
start_tracing("api")
exit_with_zero_when_stopped()
app = create_app(settings)
spare_the_collector()
give_memory_back()
