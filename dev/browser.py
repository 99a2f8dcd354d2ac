"""The pages of the API in a headless Chromium that can reach nothing but this machine."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from playwright.async_api import Browser, async_playwright

from app.api.application import create_app
from dev.servers import LOOPBACK, ServerMissing, find_chromium, free_port
from dev.specs import default_settings

_ARGUMENTS = (
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {LOOPBACK}",
    "--no-sandbox",  # Chromium has no sandbox for root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def serving_pages() -> Iterator[str]:
    """Serve the API with the default settings, but without RabbitMQ and MongoDB; yields its URL."""
    port = free_port()
    app = create_app(default_settings())
    config = uvicorn.Config(app, LOOPBACK, port, lifespan="off", ws="none", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a Chromium with a profile of its own while the block lasts.

    Raises `ServerMissing` if it is not installed.
    """
    program = find_chromium()
    if program is None:
        raise ServerMissing("Chromium is not installed here; on Debian `apt-get install chromium`")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=[*_ARGUMENTS])
        yield browser
        await browser.close()
