"""A TCP proxy in front of RabbitMQ that can keep the broker's confirms from its client."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

METHOD_FRAME = 1
HEADER_BYTES = 7
BASIC, ACK, NACK = 60, 80, 120


class ConfirmProxy(ThreadingTCPServer):
    """Passes everything on, except confirms while it is told to swallow them.

    The client's connection stays open and everything else works: heartbeats, declarations and
    deliveries. The broker has taken the message, and the client never learns it.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, broker_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Link)
        self.broker_port = broker_port
        self.swallows = False

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.server_address[1]}/"

    @contextmanager
    def swallowing_confirms(self) -> Iterator[None]:
        self.swallows = True
        try:
            yield
        finally:
            self.swallows = False

    def passes(self, frame_type: int, payload: bytes) -> bool:
        class_id, method_id = (int.from_bytes(payload[at : at + 2]) for at in (0, 2))
        is_confirm = frame_type == METHOD_FRAME and class_id == BASIC and method_id in (ACK, NACK)
        return not (self.swallows and is_confirm)


class _Link(BaseRequestHandler):
    server: ConfirmProxy

    def handle(self) -> None:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.server.broker_port)) as broker,
        ):
            Thread(target=self._pass_to_broker, args=(broker,), daemon=True).start()
            self._pass_to_client(broker)

    def _pass_to_broker(self, broker: socket.socket) -> None:
        with suppress(OSError):
            while data := self.request.recv(65536):
                broker.sendall(data)
        with suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)

    def _pass_to_client(self, broker: socket.socket) -> None:
        frames = broker.makefile("rb")
        while len(header := frames.read(HEADER_BYTES)) == HEADER_BYTES:
            # A frame: type (1 byte), channel (2), size of the payload (4), payload, end (1).
            payload = frames.read(int.from_bytes(header[3:]) + 1)
            if self.server.passes(header[0], payload):
                self.request.sendall(header + payload)


@contextmanager
def proxied(broker_port: int) -> Iterator[ConfirmProxy]:
    with ConfirmProxy(broker_port) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
