"""The worker process: `faststream run app.worker.main:app --host 0.0.0.0 --port 6578`.

This module and the API's twin are the only ones that do something when imported: they read
the settings, because uvicorn and FastStream name an object. Nothing connects yet.
"""

from app.runtime.logs import configure_logging
from app.runtime.settings import load_settings
from app.runtime.tracing import start_tracing
from app.worker.application import create_app

settings = load_settings()
configure_logging(service_name="worker", level=settings.log_level, log_format=settings.log_format)
app = create_app(settings, start_tracing("worker"))
