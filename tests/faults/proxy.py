"""A TCP proxy that can be slow, lose answers, withhold them, or point elsewhere."""

import contextlib
import random
import socket
import threading
import time

_BLOCK = 1 << 16


class Proxy:
    """Stands before one server. All of its properties may change while connections are open."""

    def __init__(self, target: int) -> None:
        self.target = target
        """port that new connections go to"""
        self.delay = 0.0
        """seconds by which each answer comes later"""
        self.lost = 0.0
        """share of answers that never come: the connection stays open and silent"""
        self.withhold = threading.Event()
        """while set, requests go through and no answer comes back"""
        self._chooser = random.Random(5)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """redis:// address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        """Cut everything."""
        for end in [self._listener, *self._open]:
            with contextlib.suppress(OSError):  # the other side may have hung up already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(end)
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        silent = False  # half a stream of answers would be garbage, so what has lost one stays silent
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK):
                silent = silent or (answers and (self.withhold.is_set() or self._chooser.random() < self.lost))
                if silent:
                    continue
                if answers and self.delay:
                    time.sleep(self.delay)
                sink.sendall(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
