"""What a process does before it builds its application."""

from app.runtime.logs import configure_logging
from app.runtime.process import exit_with_zero_when_stopped, give_memory_back
from app.runtime.settings import Settings, load_settings
from app.runtime.tracing import start_tracing


def prepare_process(service_name: str) -> Settings:
    """Read the settings, and set up logs, traces, signals and memory. Returns the settings."""
    settings = load_settings()
    configure_logging(
        service_name=service_name, level=settings.log_level, log_format=settings.log_format
    )
    start_tracing(service_name)
    exit_with_zero_when_stopped()
    give_memory_back()
    return settings
