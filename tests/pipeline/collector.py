"""A collector of traces: OTLP over HTTP, spans kept in memory."""

import threading
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass
class Span:
    """What the tests ask of a span; ids as hexadecimal texts."""

    service: str
    name: str
    span_id: str
    parent_id: str
    failed: bool
    attributes: dict[str, Any]
    links: list[str]
    """trace ids"""


class Collector:
    """Serves until the block ends; `traces` holds what came: trace id → spans."""

    def __init__(self) -> None:
        self.traces: dict[str, list[Span]] = defaultdict(list)
        self.raw = b""
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keep(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                body = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Not worth a line."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="collector", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def services(self, trace_id: str) -> set[str]:
        return {span.service for span in self.traces.get(trace_id, [])}

    def _keep(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {item.key: item.value.string_value for item in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    self.traces[span.trace_id.hex()].append(
                        Span(
                            service=about["service.name"],
                            name=span.name,
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            failed=span.status.code == span.status.STATUS_CODE_ERROR,
                            attributes={
                                item.key: getattr(item.value, item.value.WhichOneof("value") or "string_value")
                                for item in span.attributes
                            },
                            links=[link.trace_id.hex() for link in span.links],
                        )
                    )
