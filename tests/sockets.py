"""Services on real sockets of 127.0.0.1, for programs of others to talk to; for tests only."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.host import Service, Session


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Server:
    """Serves one TCP listener and one UDP socket in one thread."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.tcp.getsockname()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.address)
        self.stop_reader, self.stop_writer = socket.socketpair()
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        for listener, work in ((self.tcp, self.accept), (self.udp, self.datagram), (self.stop_reader, None)):
            self.selector.register(listener, selectors.EVENT_READ, work)
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    self.close()
                    return
                key.data()

    def accept(self) -> None:
        connection, peer = self.tcp.accept()
        session = self.service.session(peer, time.time())
        if hasattr(session, "on_output"):
            session.on_output = lambda: connection.sendall(session.take_output())  # type: ignore[attr-defined]
        self.selector.register(connection, selectors.EVENT_READ, lambda: self.bytes(connection, session))

    def bytes(self, connection: socket.socket, session: Session) -> None:
        data = connection.recv(65536)
        answer = session.receive(data, time.time()) if data else None
        if answer is not None and answer.data:
            connection.sendall(answer.data)
        if not data or (answer is not None and answer.close):
            if hasattr(session, "lost"):
                session.lost(time.time())
            self.selector.unregister(connection)
            connection.close()

    def datagram(self) -> None:
        data, peer = self.udp.recvfrom(65536)
        for answer in self.service.handle(data, peer, time.time()):
            self.udp.sendto(answer.data, peer)

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()


@contextmanager
def serve(service: Service) -> Iterator[tuple[str, int]]:
    """Serve over TCP and UDP on one port while the block runs; gives (host, port)."""
    server = _Server(service)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop_writer.send(b"x")
        thread.join(5)
        server.stop_writer.close()
        assert not thread.is_alive()
