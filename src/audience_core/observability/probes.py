"""`/livez`, `/readyz` and `/metrics`: the answers for ASGI services, and a small server for the others."""

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from audience_core.errors import PermanentError

Missing = Callable[[], list[str]]
"""Returns what is missing, in words; empty when nothing is."""


class Answer(NamedTuple):
    """A small HTTP answer."""

    status: int
    content_type: str
    body: bytes


def metrics_answer() -> Answer:
    """All metrics of this process in Prometheus's text format."""
    return Answer(200, CONTENT_TYPE_LATEST, generate_latest())


def probe_answer(missing: list[str], notes: Sequence[str] = ()) -> Answer:
    """200 when nothing is missing, else 503 with the list. `notes` are for people and decide nothing."""
    answer = {"status": "missing" if missing else "ok", "missing": missing} | ({"notes": list(notes)} if notes else {})
    body = json.dumps(answer).encode()
    return Answer(503 if missing else 200, "application/json", body)


class ProbeServer:
    """Serves the three paths from a thread, for processes whose main loop is no HTTP server.

    Raises PermanentError when the port can't be had.
    """

    def __init__(self, host: str, port: int, *, live: Missing, ready: Missing) -> None:
        routes: dict[str, Callable[[], Answer]] = {
            "/livez": lambda: probe_answer(live()),
            "/readyz": lambda: probe_answer(ready()),
            "/metrics": metrics_answer,
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                route = routes.get(self.path.partition("?")[0])
                answer = route() if route else Answer(404, "text/plain", b"not found\n")
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Probes are not worth a log line."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise PermanentError(
                f"port {port} of {host}, for probes and metrics, can't be had: {error.strerror}; stop what listens"
                " there, or set AUDIENCE_METRICS_PORT to another port (0 = any free one)"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)

    @property
    def port(self) -> int:
        """The port bound, also when 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop and free the port."""
        self._server.shutdown()
        self._server.server_close()
