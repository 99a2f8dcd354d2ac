"""A TCP proxy on loopback between two processes, which can delay, cut and half-open the link."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

CHUNK_BYTES = 65_536


class Proxy:
    """Forwards every connection to `target_port`, each until a fault is caused.

    Its faults may be caused from any thread. They hold for the connections there are; `heal()`
    ends them.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._delay_seconds = 0.0
        self._refuses = False
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where clients connect instead."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def delay(self, seconds: float) -> None:
        """Hold every chunk back for so long, in both directions."""
        self._delay_seconds = seconds

    def cut(self) -> None:
        """Reset every connection, and every new one until `heal()`."""
        self._refuses = True
        self._in_loop(self._reset_all)

    def half_open(self) -> None:
        """Forward nothing any more on the connections there are, and do not close them.

        So does a firewall that has forgotten a connection. New connections are forwarded.
        """
        self._in_loop(self._forget_all)

    def heal(self) -> None:
        """Forward again as before. Half-open connections stay so for good."""
        self._delay_seconds, self._refuses = 0.0, False

    def run(self) -> None:
        """Serve until `stop()` is called."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def start(self) -> None:
        """Begin to listen. `run()` has to be running in a thread."""
        self._wait_for(self._listen())

    def stop(self) -> None:
        """Close everything, and let `run()` return."""
        self._wait_for(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        # A task that is cancelled before its first step never reaches its `finally`.
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._refuses:
                await self._connect(reader, writer)
        finally:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            return
        connection = _Connection(writer, far_writer)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._forward(reader, far_writer, connection),
                self._forward(far_reader, writer, connection),
            )
        finally:
            self._connections.discard(connection)
            connection.reset()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: "_Connection"
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                await asyncio.sleep(self._delay_seconds)
                if not connection.is_forgotten:
                    writer.write(chunk)
                    await writer.drain()
        if not connection.is_forgotten:
            connection.reset()

    def _reset_all(self) -> None:
        for connection in self._connections:
            connection.reset()

    def _forget_all(self) -> None:
        for connection in self._connections:
            connection.is_forgotten = True

    def _in_loop(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self._wait_for(act())

    def _wait_for(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


class _Connection:
    """The two ends of one forwarded connection."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._ends = (near, far)
        self.is_forgotten = False

    def reset(self) -> None:
        for end in self._ends:
            end.transport.abort()


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """Run a proxy in a thread of its own."""
    proxy = Proxy(port)
    thread = Thread(target=proxy.run)
    thread.start()
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()
        thread.join()
